"""Passes between which blobs, shapes or constants change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.engine.autograd import Autograd
from moka.engine.layerwise import Layerwise
from moka.errors import NetError
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

JOINED = """
force_backward: true
layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }
layer { name: "cat" type: "Concat" bottom: "c" top: "d" concat_param { axis: 0 } }
layer { name: "flat" type: "Flatten" bottom: "d" top: "e" flatten_param { axis: 0 } }
"""


def test_every_blob_has_a_diff_of_its_own(make_net: NetMaker) -> None:
    net = make_net(JOINED)
    engine = Layerwise(net)
    engine.forward()
    net.blobs["e"].diff[...] = 1
    engine.backward()
    for name in ("a", "b", "c", "d"):
        net.blobs[name].diff[...] += ord(name)
    diffs = {name: blob.diff.tolist() for name, blob in net.blobs.items()}
    assert diffs == {n: [1 + ord(n)] * 2 for n in "abcd"} | {"e": [1, 1]}


TWO = """
force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 1
  weight_filler { value: 2 } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 1 } }
"""


@pytest.mark.parametrize("hand_out_first", [True, False])
def test_a_blob_that_changes_under_the_layer_that_read_it(
    make_net: NetMaker, hand_out_first: bool
) -> None:
    """The gradient belongs to the values of the last forward pass of the layer itself."""
    net = make_net(TWO)
    engine = Layerwise(net)
    if hand_out_first:
        assert not net.blobs["a"].data.any()
    net.blobs["x"].data[...] = 1
    engine.forward()
    assert net.blobs["a"].data == 2
    net.blobs["x"].data[...] = 5
    engine.forward(end=1)
    assert net.blobs["a"].data == 10
    net.blobs["b"].diff[...] = 1
    engine.backward()
    assert net.layer_blobs(2)[0].diff == 2


def test_a_pass_of_the_whole_net_makes_older_records_worthless(make_net: NetMaker) -> None:
    net = make_net(TWO)
    step = Autograd(net, keep_blobs=True)
    engine = step.layerwise
    net.blobs["x"].data[...] = 1
    engine.forward()
    net.blobs["x"].data[...] = 5
    step.forward()
    assert net.blobs["a"].data == 10
    net.blobs["b"].diff[...] = 1
    engine.backward()
    assert net.layer_blobs(2)[0].diff == 10


HANDING_ON = """
layer { name: "in" type: "Input" top: "x" top: "cont"
  input_param { shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } } }
layer { name: "norm" type: "BatchNorm" bottom: "x" top: "norm" }
layer { name: "lstm" type: "LSTM" bottom: "norm" bottom: "cont" top: "h" loss_weight: 1
  recurrent_param { num_output: 2 weight_filler { type: "gaussian" } } }
"""


def test_a_layer_run_again_for_its_gradient_hands_nothing_on(make_net: NetMaker) -> None:
    net = make_net("force_backward: true\n" + HANDING_ON, caffe_pb2.TRAIN)
    step = Autograd(net, keep_blobs=True)
    engine = step.layerwise
    net.blobs["x"].data[...] = np.random.default_rng(3).normal(size=(3, 2, 4))
    net.blobs["cont"].data[...] = 1
    norm, lstm = net.layers[1], net.layers[2]
    for _ in range(2):
        step.forward_backward()
        wanted = [w.grad.clone() for w in lstm.weights if w.grad is not None]
        engine.clear_param_diffs()
        before = [*lstm.run_state(), *(w.detach().clone() for w in norm.weights)]
        engine.backward()
        for blob, grad in zip(net.layer_blobs(2), wanted, strict=True):
            np.testing.assert_allclose(blob.diff, grad, rtol=1e-4, atol=1e-6)  # float32
        after = [*lstm.run_state(), *norm.weights]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        engine.clear_param_diffs()


FILTERED = """
force_backward: true
layer { name: "in" type: "Input" top: "x" top: "s"
  input_param { shape { dim: 3 dim: 2 } shape { dim: 3 } } }
layer { name: "f" type: "Filter" bottom: "x" bottom: "s" top: "y" }
layer { name: "sum" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }
"""


def test_a_top_may_change_its_size_from_pass_to_pass(make_net: NetMaker) -> None:
    net = make_net(FILTERED)
    engine = Layerwise(net)
    assert net.blobs["y"].shape == (3, 2)
    net.blobs["x"].data[...] = [[1, 2], [3, 4], [5, 6]]
    for selector, total in (([1, 0, 1], 14.0), ([0, 0, 0], 0.0), ([1, 1, 1], 21.0)):
        net.blobs["s"].data[...] = selector
        assert engine.forward() == total
        assert net.blobs["y"].data.shape == (sum(selector), 2)
        engine.backward()
        assert net.blobs["x"].diff.tolist() == [[float(s)] * 2 for s in selector]
        assert not net.blobs["s"].diff.any()


CONSTANT = """
layer { name: "data" type: "DummyData" top: "x" top: "r"
  dummy_data_param { shape { dim: 3 } data_filler { value: 3 } data_filler { type: "gaussian" } } }
layer { name: "twice" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
"""


def test_constants_are_filled_once_and_then_the_users(make_net: NetMaker) -> None:
    net = make_net(CONSTANT)
    assert net.blobs["x"].data.tolist() == [3, 3, 3]
    engine = Layerwise(net)
    engine.forward()
    assert net.blobs["y"].data.tolist() == [6, 6, 6]
    net.blobs["x"].data[...] = 5
    drawn = net.blobs["r"].data.tolist()
    engine.forward()
    assert net.blobs["x"].data.tolist() == [5, 5, 5]
    assert net.blobs["y"].data.tolist() == [10, 10, 10]
    assert net.blobs["r"].data.tolist() != drawn


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Dropout"',
        'type: "Power"',
        'type: "Slice" slice_param { axis: 0 } top: "z"',
        'type: "Crop" crop_param { axis: 1 } bottom: "t"',
    ],
)
def test_what_a_pass_has_made_stays_when_its_input_is_written(
    make_net: NetMaker, layer: str
) -> None:
    inputs = (
        'layer { name: "in" type: "Input" top: "x" top: "t"'
        " input_param { shape { dim: 2 dim: 3 } } }"
    )
    net = make_net(f'{inputs} layer {{ name: "it" bottom: "x" top: "y" {layer} }}')
    net.blobs["x"].data[...] = 1
    Layerwise(net).forward()
    net.blobs["x"].data[...] = 2
    assert (net.blobs["y"].data == 1).all()


IMAGES = """
force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
layer { name: "pool" type: "Pooling" bottom: "x" top: "pool"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 1 weight_filler { type: "constant" value: 1 } } }
"""


def test_a_part_of_the_net_takes_shapes_that_the_rest_cannot(make_net: NetMaker) -> None:
    """As programs make larger images dream: they end before the inner products."""
    net = make_net(IMAGES)
    engine = Layerwise(net)
    x = net.blobs["x"]
    x.reshape(1, 1, 6, 4)
    x.data[...] = 1
    engine.forward(end=1)
    assert net.blobs["pool"].data.tolist() == [[[[1, 1]] * 3]]
    net.blobs["pool"].diff[...] = 4
    engine.backward(start=1)
    assert (x.diff == 1).all()
    for run in (engine.forward, engine.backward):
        with pytest.raises(NetError, match=r'"ip" .*the weights take 4 inputs'):
            run()

    x.reshape(1, 1, 4, 4)  # as at first
    x.data[...] = 2
    engine.forward()
    assert net.blobs["pool"].data.shape == (1, 1, 2, 2)
    assert net.blobs["ip"].data.tolist() == [[8]]


def test_layers_left_out_follow_a_new_shape_later(make_net: NetMaker) -> None:
    net = make_net(IMAGES)
    engine = Layerwise(net)
    net.blobs["x"].reshape(3, 1, 4, 4)
    net.blobs["x"].data[...] = 1
    engine.forward(end=1)
    assert net.blobs["ip"].shape == (1, 1)
    engine.forward()
    assert net.blobs["ip"].data.tolist() == [[4]] * 3
