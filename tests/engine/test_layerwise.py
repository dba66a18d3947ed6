from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.engine.layerwise import Layerwise
from moka.errors import NetError
from moka.net import Net

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }
layer { name: "act" type: "Sigmoid" bottom: "ip" top: "act" }
layer { name: "loss" type: "EuclideanLoss" bottom: "act" bottom: "t" top: "loss" loss_weight: 4 }
"""


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    made = make_net("force_backward: true\n" + TEXT)
    rng = np.random.default_rng(2)
    for name in ("x", "t"):
        made.blobs[name].data[...] = rng.normal(size=(2, 3))
    return made


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_forward_is_the_formula(net: Net) -> None:
    loss = Layerwise(net).forward()
    weight, bias = (b.data for b in net.layer_blobs(1))
    x, t = net.blobs["x"].data, net.blobs["t"].data
    total = 0.0
    for n in range(2):
        for m in range(3):
            y = sigmoid(bias[m] + sum(weight[m, k] * x[n, k] for k in range(3)))
            # Single precision.
            assert net.blobs["act"].data[n, m] == pytest.approx(y, rel=1e-5)
            total += (y - t[n, m]) ** 2 / 4
    assert float(net.blobs["loss"].data) == pytest.approx(total, rel=1e-5)
    assert loss == pytest.approx(4 * total, rel=1e-5)


def test_backward_is_the_formula(net: Net) -> None:
    engine = Layerwise(net)
    engine.forward()
    engine.backward()
    x, y, t = (net.blobs[name].data for name in ("x", "act", "t"))
    d_act = 4 * (y - t) / 2
    d_ip = d_act * y * (1 - y)
    d_weight, d_bias, d_x = np.zeros((3, 3)), np.zeros(3), np.zeros((2, 3))
    weight = net.layer_blobs(1)[0].data
    for n in range(2):
        for m in range(3):
            d_bias[m] += d_ip[n, m]
            for k in range(3):
                d_weight[m, k] += d_ip[n, m] * x[n, k]
                d_x[n, k] += d_ip[n, m] * weight[m, k]
    expected = {"act": d_act, "t": -d_act, "ip": d_ip, "x": d_x}
    for name, diff in expected.items():
        np.testing.assert_allclose(net.blobs[name].diff, diff, rtol=1e-4, atol=1e-6)  # float32
    for blob, diff in zip(net.layer_blobs(1), (d_weight, d_bias), strict=True):
        np.testing.assert_allclose(blob.diff, diff, rtol=1e-4, atol=1e-6)  # float32


def test_forward_from_and_to_a_layer(net: Net) -> None:
    engine = Layerwise(net)
    assert engine.forward(end=1) == 0
    assert net.blobs["ip"].data.any()
    assert not net.blobs["act"].data.any()
    net.blobs["ip"].data[...] = 0  # what the user writes is what the next layer reads
    loss = engine.forward(start=2)
    assert (net.blobs["act"].data == 0.5).all()
    assert loss == pytest.approx(4 * float(net.blobs["loss"].data))
    assert engine.forward(start=2, end=2) == 0


def test_backward_from_and_to_a_layer(net: Net) -> None:
    engine = Layerwise(net)
    engine.forward()
    engine.backward(end=2)
    assert net.blobs["ip"].diff.any()
    assert not net.layer_blobs(1)[0].diff.any()
    net.blobs["ip"].diff[...] = 1
    engine.backward(start=1)
    assert net.layer_blobs(1)[1].diff.tolist() == [2, 2, 2]


def test_callbacks_get_the_layer_index_in_order(net: Net) -> None:
    engine = Layerwise(net)
    said: list[tuple[str, int]] = []
    for name in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(engine.callbacks, name).append(lambda i, name=name: said.append((name, i)))
    engine.forward(1, 2)
    engine.backward(2, 1)
    assert said == [
        ("before_forward", 1),
        ("after_forward", 1),
        ("before_forward", 2),
        ("after_forward", 2),
        ("before_backward", 2),
        ("after_backward", 2),
        ("before_backward", 1),
        ("after_backward", 1),
    ]


def test_a_callback_after_forward_sees_the_result(net: Net) -> None:
    engine = Layerwise(net)
    seen = []
    engine.callbacks.after_forward.append(lambda i: seen.append(net.blobs["ip"].data.any()))
    engine.forward()
    assert seen == [False, True, True, True]


def test_parameter_diffs_add_up_and_bottom_diffs_do_not(net: Net) -> None:
    engine = Layerwise(net)
    engine.forward()
    engine.backward()
    once, bottom = net.layer_blobs(1)[0].diff.copy(), net.blobs["x"].diff.copy()
    engine.backward()
    engine.backward()
    np.testing.assert_allclose(net.layer_blobs(1)[0].diff, 3 * once, rtol=1e-6)  # float32
    np.testing.assert_array_equal(net.blobs["x"].diff, bottom)
    engine.clear_param_diffs()
    assert not net.layer_blobs(1)[0].diff.any()


def test_diff_of_a_loss_starts_as_its_weight_and_may_be_changed(net: Net) -> None:
    engine = Layerwise(net)
    engine.forward()
    assert net.blobs["loss"].diff == 4
    engine.backward()
    before = net.blobs["x"].diff.copy()
    net.blobs["loss"].diff[...] = 8
    engine.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, 2 * before, rtol=1e-6)  # float32


def test_backward_needs_no_forward(net: Net) -> None:
    net.blobs["act"].data[...] = 1
    net.blobs["t"].data[...] = 0
    Layerwise(net).backward(start=3, end=3)
    assert (net.blobs["act"].diff == 2).all()


def test_arrays_handed_out_stay_live(net: Net) -> None:
    engine = Layerwise(net)
    data = {name: blob.data for name, blob in net.blobs.items()}
    diffs = {name: blob.diff for name, blob in net.blobs.items()}
    params = [(b.data, b.diff) for b in net.layer_blobs(1)]
    engine.forward()
    engine.backward()
    net.blobs["x"].data[...] += 1
    engine.forward()
    engine.backward()
    for name, blob in net.blobs.items():
        assert np.shares_memory(blob.data, data[name]), name
        assert np.shares_memory(blob.diff, diffs[name]), name
        assert data[name].any(), name
        assert diffs[name].any(), name
    for blob, (values, diff) in zip(net.layer_blobs(1), params, strict=True):
        assert np.shares_memory(blob.data, values)
        assert np.shares_memory(blob.diff, diff)
        assert diff.any()


def test_weights_written_through_the_array_count(net: Net) -> None:
    net.layer_blobs(1)[0].data[...] = 0
    net.layer_blobs(1)[1].data[...] = [1, 2, 3]
    Layerwise(net).forward()
    assert net.blobs["ip"].data.tolist() == [[1, 2, 3]] * 2


def test_weights_changed_between_the_passes(net: Net) -> None:
    """As in BVLC Caffe, the backward pass of an inner product uses the weights of now."""
    engine = Layerwise(net)
    engine.forward()
    weight = net.layer_blobs(1)[0]
    weight.data[...] = 0
    engine.backward()
    assert not net.blobs["x"].diff.any()
    weight.data_memory.put(torch.ones(3, 3))  # as loading weights does
    engine.backward()
    assert net.blobs["x"].diff.any()


def test_a_part_of_the_net_run_again_before_the_backward_pass(net: Net) -> None:
    engine = Layerwise(net)
    engine.forward()
    assert net.blobs["ip"].data.any()  # hands the array out
    engine.forward(end=1)
    engine.backward()
    assert net.blobs["x"].diff.any()


SPLIT = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "double" type: "Power" bottom: "x" top: "a" power_param { scale: 2 } }
layer { name: "b" type: "Power" bottom: "a" top: "b" }
layer { name: "c" type: "Power" bottom: "a" top: "c" power_param { power: 2 } }
"""


def test_a_blob_with_several_readers_is_written_to_between_the_layers(make_net: NetMaker) -> None:
    """In BVLC Caffe a Split's tops are its bottom's memory."""
    net = make_net("force_backward: true\n" + SPLIT)
    engine = Layerwise(net)
    engine.forward()
    net.blobs["a"].data[...] = 3
    engine.forward(start=3)  # behind the Split
    assert (net.blobs["b"].data == 3).all()
    assert (net.blobs["c"].data == 9).all()
    net.blobs["c"].diff[...] = 1
    engine.backward(end=3)
    assert (net.blobs["a_double_0_split_1"].diff == 6).all()
    engine.forward()
    assert not net.blobs["a"].data.any()
    assert not net.blobs["c"].data.any()


def test_input_blobs_that_were_reshaped_carry_their_shape_through(net: Net) -> None:
    for name in ("x", "t"):
        net.blobs[name].reshape(4, 3)
        net.blobs[name].data[...] = 1
    engine = Layerwise(net)
    engine.forward()
    engine.backward()
    assert net.blobs["act"].shape == (4, 3)
    assert net.blobs["act"].data.shape == net.blobs["act"].diff.shape == (4, 3)


def test_a_layer_checks_new_shapes_when_it_runs(net: Net) -> None:
    engine = Layerwise(net)
    net.blobs["x"].reshape(4, 3)
    engine.forward(end=2)
    assert net.blobs["act"].shape == (4, 3)
    with pytest.raises(NetError, match=r'layer "loss" \(EuclideanLoss\)'):
        engine.forward()


def test_shapes_are_checked_once(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[tuple[int, ...]] = []

    def top_shapes(x: tuple[int, ...]) -> list[tuple[int, ...]]:
        checked.append(x)
        return [x]

    monkeypatch.setattr(net.layers[1], "top_shapes", top_shapes)
    engine = Layerwise(net)
    for rows in (2, 2, 4, 4):
        for name in ("x", "t"):
            net.blobs[name].reshape(rows, 3)
        engine.forward()
    assert checked == [(2, 3), (4, 3)]


def test_diffs_that_are_not_computed_keep_their_values(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    engine = Layerwise(net)
    net.blobs["x"].diff[...] = 5
    engine.forward()
    engine.backward()
    assert (net.blobs["x"].diff == 5).all()
    assert net.layer_blobs(1)[1].diff.any()
