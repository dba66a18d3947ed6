"""A small classifier, from data to loss, used as programs written for pycaffe use nets."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import caffe
from moka.errors import NetError
from moka.types import Array

CLASSES = 5
NET = """
name: "classifier" force_backward: true
layer { type: "DummyData" name: "data" top: "data" top: "label"
  dummy_data_param { shape { dim: 4 dim: 2 dim: 3 dim: 4 } shape { dim: 4 }
    data_filler { type: "gaussian" } data_filler { type: "constant" } } }
layer { type: "Convolution" name: "conv" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 2 pad: 1 weight_filler { type: "gaussian" }
    bias_filler { value: 2 } } }
layer { type: "InnerProduct" name: "ip" bottom: "conv" top: "scores"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.3 }
    bias_filler { value: -3 } } }
layer { type: "SoftmaxWithLoss" name: "loss" bottom: "scores" bottom: "label" top: "loss" }
"""


@pytest.fixture
def net() -> caffe.Net:
    Path("classifier.prototxt").write_text(NET)
    made = caffe.Net("classifier.prototxt", caffe.TRAIN)
    made.blobs["label"].data[...] = [0, 4, 2, 1]
    return made


def random(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def test_arrays_outlive_their_net(net: caffe.Net) -> None:
    net.forward()
    net.backward()
    blobs = [*net.blobs.values(), *(b for blobs in net.params.values() for b in blobs)]
    arrays = [array for blob in blobs[:4] for array in (blob.data, blob.diff)]
    sums = [float(array.sum()) for array in arrays]
    del net
    gc.collect()
    assert [float(array.sum()) for array in arrays] == sums
    assert np.isfinite([blob.data.sum() + blob.diff.sum() for blob in blobs]).all()


def test_names(net: caffe.Net) -> None:
    assert (net.inputs, net.outputs) == ([], ["loss"])
    assert dict(net.top_names) == {
        "data": ["data", "label"],
        "conv": ["conv"],
        "ip": ["scores"],
        "loss": ["loss"],
    }
    assert dict(net.bottom_names) == {
        "data": [],
        "conv": ["data"],
        "ip": ["conv"],
        "loss": ["scores", "label"],
    }
    assert list(net.layer_dict) == list(net._layer_names) == ["data", "conv", "ip", "loss"]
    for k, name in enumerate(net._layer_names):
        assert net.layer_dict[name] is net.layers[k]
        assert isinstance(net.layers[k], caffe.Layer)
    assert net.layers[1].type == "Convolution"
    assert net.layers[1].blobs is net.params["conv"]


def test_what_programs_find_under_private_names(net: caffe.Net) -> None:
    assert net._blob_names == ["data", "label", "conv", "scores", "loss"]
    assert [net._blob_names[i] for i in net._outputs] == ["loss"]
    assert net._inputs == []
    assert net._blobs[2] is net.blobs["conv"]
    assert net._blob_loss_weights == [0, 0, 0, 0, 1]
    assert net._top_ids(0) == [0, 1]
    assert net._bottom_ids(3) == [3, 1]
    loss = net._forward(0, 3)
    assert loss == pytest.approx(float(net.blobs["loss"].data))
    net._backward(3, 2)
    assert net.params["ip"][0].diff.any()
    assert not net.params["conv"][0].diff.any()
    for first, last in ((-1, 2), (0, 4), (2, 1)):
        with pytest.raises(NetError, match="there are layers 0 to 3"):
            net._forward(first, last)


def test_dictionaries_are_the_same_each_time(net: caffe.Net) -> None:
    assert net.blobs is net.blobs
    assert net.params is net.params
    assert net.blobs["conv"] is net.blobs["conv"]
    assert net.params["conv"][0] is net.layers[1].blobs[0]


def test_one_layer_forward(net: caffe.Net) -> None:
    net.blobs["conv"].data[:] = sample = random(*net.blobs["conv"].shape)
    got = net.forward(start="ip", end="ip")
    weight, bias = (blob.data for blob in net.params["ip"])
    wanted = sample.reshape(4, -1) @ weight.T + bias
    np.testing.assert_allclose(got["scores"], wanted, rtol=1e-4, atol=1e-5)
    assert list(got) == ["scores"]


def test_one_layer_backward_without_a_forward_pass(net: caffe.Net) -> None:
    net.blobs["scores"].diff[:] = sample = random(4, CLASSES)
    got = net.backward(start="ip", end="ip")
    wanted = sample @ net.params["ip"][0].data
    np.testing.assert_allclose(got["conv"].reshape(4, -1), wanted, rtol=1e-4, atol=1e-5)


def test_clear_param_diffs_clears_what_was_handed_out(net: caffe.Net) -> None:
    diff = net.params["conv"][0].diff
    net.forward()
    net.backward()
    assert diff.any()
    net.clear_param_diffs()
    assert not diff.any()


def test_a_gradient_of_the_data(net: caffe.Net) -> None:
    """As in DeepDream: forward to a layer, its values as its diff, back to the image."""
    net.forward(end="conv")
    data, conv = net.blobs["data"].data.copy(), net.blobs["conv"]
    net.blobs["data"].data[0, :, ::2] += 1
    net.forward(start="conv", end="conv")
    conv.diff[:] = conv.data
    net.backward(start="conv")
    slope = net.blobs["data"].diff.copy()
    assert slope.any()

    def half_the_energy(images: Array) -> float:
        net.blobs["data"].data[...] = images
        net.forward(start="conv", end="conv")
        return float(np.square(conv.data, dtype=np.float64).sum() / 2)

    data[0, :, ::2] += 1
    step = 1e-2 * random(*data.shape)
    found = half_the_energy(data + step) - half_the_energy(data - step)
    # The energy is quadratic, so a central difference is exact up to float32's rounding.
    assert found == pytest.approx(2 * float((slope * step).sum()), rel=1e-3)


def test_net_surgery(net: caffe.Net) -> None:
    weight, bias = net.params["ip"]
    weight.data[...] = 0
    bias.data.flat = range(CLASSES)  # type: ignore[misc, assignment]
    bias.data[...] += 1
    got = net.forward()
    np.testing.assert_array_equal(net.blobs["scores"].data, [[1, 2, 3, 4, 5]] * 4)
    scores = np.arange(1.0, CLASSES + 1)
    loss = np.log(np.exp(scores).sum()) - scores[[0, 4, 2, 1]].mean()
    assert got["loss"] == pytest.approx(loss, rel=1e-5)


def test_arrays_are_row_major(net: caffe.Net) -> None:
    """Some programs write through `ravel` or `reshape`, which must be views."""
    net.forward()
    net.backward()
    for blob in net.blobs.values():
        assert blob.data.flags.c_contiguous
        assert blob.diff.flags.c_contiguous
    net.blobs["conv"].data.ravel()[3] = 99
    net.blobs["conv"].diff.reshape(-1)[5] = 77
    assert net.blobs["conv"].data.flat[3] == 99
    assert net.blobs["conv"].diff.flat[5] == 77


def test_an_array_shows_the_next_pass(net: caffe.Net) -> None:
    net.forward()
    scores, diff = net.blobs["scores"].data, net.blobs["conv"].diff
    before = scores.copy()
    net.forward()  # with other images
    assert not np.array_equal(scores, before)
    weight, bias = (blob.data for blob in net.params["ip"])
    wanted = net.blobs["conv"].data.reshape(4, -1) @ weight.T + bias
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)
    net.backward()
    assert diff.any()


def test_save_and_read(net: caffe.Net) -> None:
    net.save("model")
    net.save_hdf5("model.h5")
    loaded = (
        caffe.Net("classifier.prototxt", "model", caffe.TRAIN),  # type: ignore[arg-type]
        caffe.Net("classifier.prototxt", caffe.TRAIN, weights="model"),
        caffe.Net("classifier.prototxt", caffe.TRAIN, 0, None, "model.h5"),
        caffe.Net("classifier.prototxt", caffe.TRAIN),
    )
    loaded[3].load_hdf5("model.h5")
    for other in loaded:
        for name, blobs in net.params.items():
            for k, blob in enumerate(blobs):
                np.testing.assert_array_equal(other.params[name][k].data, blob.data)


def test_callbacks_around_layers(net: caffe.Net) -> None:
    seen: list[tuple[str, int]] = []
    net.before_forward(lambda i: seen.append(("forward", i)))
    net.after_backward(lambda i: seen.append(("backward", i)))
    net.forward(start="conv", end="ip")
    net.backward(start="ip", end="conv")
    assert seen == [("forward", 1), ("forward", 2), ("backward", 2), ("backward", 1)]


def test_sharing_shares_values_but_no_diffs(net: caffe.Net) -> None:
    other = caffe.Net("classifier.prototxt", caffe.TRAIN)
    held = other.params["ip"][0]
    other.share_with(net)
    net.params["ip"][0].data[...] = 0.125
    assert (held.data == 0.125).all()
    other.params["conv"][1].data[...] = -2
    assert (net.params["conv"][1].data == -2).all()
    other.forward()
    other.backward()
    assert held.diff.any()
    assert not net.params["ip"][0].diff.any()


def test_sharing_leaves_the_diffs_as_they_are(net: caffe.Net) -> None:
    other = caffe.Net("classifier.prototxt", caffe.TRAIN)
    other.forward()
    other.backward()
    before = other.params["ip"][0].diff.copy()
    assert before.any()
    other.share_with(net)
    np.testing.assert_array_equal(other.params["ip"][0].diff, before)
    other.backward()  # of the forward pass before
    assert (other.params["ip"][0].diff != before).any()
