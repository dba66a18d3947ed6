"""Both engines compute the same losses and gradients; what the training step leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.engine.nets_of_all_kinds import NETS, act, conv, input_of, ip, loss, pool

from moka.engine.autograd import Autograd
from moka.engine.layerwise import Layerwise
from moka.net import Net
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker


def fill_inputs(net: Net) -> None:
    rng = np.random.default_rng(11)
    for name in net.graph.inputs:
        data = net.blobs[name].data
        labels = name == "label"
        data[...] = rng.integers(0, 3, data.shape) if labels else rng.normal(size=data.shape)


def diffs_of(net: Net) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {
        f"{node.name}/{k}": blob.diff.copy()
        for i, node in enumerate(net.graph.nodes)
        for k, blob in enumerate(net.layer_blobs(i))
    }


@pytest.mark.parametrize("forced", ["", "force_backward: true "])
@pytest.mark.parametrize("text", NETS.values(), ids=list(NETS))
def test_engines_agree(make_net: NetMaker, device: torch.device, text: str, forced: str) -> None:
    if forced.strip() not in text:
        text = forced + text
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(make_net(text, caffe_pb2.TRAIN))
        fill_inputs(nets[-1])
    layerwise, step = Layerwise(nets[0]), Autograd(nets[1], keep_blobs=True)
    for _ in range(2):  # a second round adds to the diffs of the first
        torch.manual_seed(4)  # of dropout
        loss = float(layerwise.forward())
        layerwise.backward()
        torch.manual_seed(4)
        # Single precision; only the order of sums differs.
        assert float(step.forward_backward()) == pytest.approx(loss, rel=1e-5)
    for name in nets[0].blobs:
        have, want = nets[1].blobs[name].data, nets[0].blobs[name].data
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5, err_msg=name)
        have, want = nets[1].blobs[name].diff, nets[0].blobs[name].diff
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5, err_msg=f"diff of {name}")
    wanted = diffs_of(nets[0])
    for name, diff in diffs_of(nets[1]).items():
        np.testing.assert_allclose(diff, wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)
    if text != NETS["no loss"] and not forced:
        assert any(diff.any() for diff in wanted.values())


def test_forward_alone_makes_no_gradients(make_net: NetMaker) -> None:
    net = make_net(NETS["shared weights"], caffe_pb2.TRAIN)
    fill_inputs(net)
    step = Autograd(net)
    loss = step.forward()
    assert all(p.grad is None for p in net.parameters())
    assert step.forward_backward().item() == loss.item()


def test_only_outputs_are_kept_unless_asked(make_net: NetMaker) -> None:
    net = make_net(NETS["two weighted losses"], caffe_pb2.TRAIN)
    fill_inputs(net)
    Autograd(net).forward_backward()
    assert net.blobs["l1"].data_memory.state.name == "HEAD_AT_CPU"
    assert net.blobs["x"].data_memory.state.name == "UNINITIALIZED"
    Autograd(net, keep_blobs=True).forward_backward()
    assert net.blobs["x"].data.any()


def test_arrays_handed_out_follow_the_training(make_net: NetMaker) -> None:
    net = make_net(NETS["shared weights"], caffe_pb2.TRAIN)
    fill_inputs(net)
    step = Autograd(net, keep_blobs=True)
    x, loss = net.blobs["x"].data, net.blobs["loss"].data
    first = float(step.forward_backward())
    assert float(loss) == first
    before = x.copy()
    net.blobs["a"].data[...] *= 2
    assert float(step.forward_backward()) == float(loss) != first
    assert not np.array_equal(x, before)


def test_a_shared_weight_takes_no_gradient_from_a_user_with_rate_0(make_net: NetMaker) -> None:
    text = (
        "force_backward: false "
        + input_of("x", 1, 2)
        + input_of("t", 1, 2)
        + ip("a", "x", "y", 2, 'param { name: "w" lr_mult: 0 }')
        + ip("b", "y", "z", 2, 'param { name: "w" }')
        + loss("EuclideanLoss", "z", "t")
    )
    diffs = []
    for engine in ("layerwise", "training"):
        torch.manual_seed(0)
        net = make_net(text, caffe_pb2.TRAIN)
        net.blobs["x"].data[...] = 1
        if engine == "layerwise":
            run = Layerwise(net)
            run.forward()
            run.backward()
        else:
            Autograd(net).forward_backward()
        diffs.append(net.layer_blobs(2)[0].diff.copy())
    assert np.abs(diffs[0]).max() > 0
    np.testing.assert_allclose(diffs[1], diffs[0], rtol=1e-6)


def test_a_kernel_shared_as_another_shape(make_net: NetMaker) -> None:
    share = 'param { name: "w" share_mode: PERMISSIVE } param { name: "b" }'
    net = make_net(
        input_of("x", 1, 2, 3, 3)
        + input_of("v", 1, 18)
        + conv("c", "x", "c", "num_output: 4 kernel_size: 3").replace(
            "convolution_param", f"{share} convolution_param", 1
        )
        + 'layer { name: "f" type: "Flatten" bottom: "c" top: "f" }'
        + ip("i", "v", "i", 4, share)
        + loss("EuclideanLoss", "f", "i"),
        caffe_pb2.TRAIN,
    )
    values = np.arange(18, dtype=np.float32) / 18
    net.blobs["x"].data[...] = values.reshape(1, 2, 3, 3)
    net.blobs["v"].data[...] = values
    assert float(Autograd(net).forward_backward()) == pytest.approx(0, abs=1e-6)


MIXED = (
    input_of("data", 2, 3, 8, 8)
    + input_of("label", 2)
    + conv("conv1", "data", "conv1", "num_output: 4 kernel_size: 3")
    + 'layer { name: "norm" type: "BatchNorm" bottom: "conv1" top: "norm" }'
    + act("ReLU", "norm")
    + pool("pool", "norm", "pool", "kernel_size: 2 stride: 2")
    + conv("conv2", "pool", "conv2", "num_output: 4 kernel_size: 3")
    + 'layer { name: "lrn" type: "LRN" bottom: "conv2" top: "lrn" }'
    + ip("ip", "lrn", "ip", 3)
    + loss("SoftmaxWithLoss", "ip", "label")
)


def test_mixed_precision_is_near_single_precision(make_net: NetMaker, device: torch.device) -> None:
    """Matrix products in bfloat16, which has 8 bits; everything that is kept in float32."""
    results = []
    for bfloat16 in (False, True):
        torch.manual_seed(3)
        net = make_net(MIXED, caffe_pb2.TRAIN)
        rng = np.random.default_rng(3)
        net.blobs["data"].data[...] = rng.standard_normal((2, 3, 8, 8))
        net.blobs["label"].data[...] = [0, 2]
        step = Autograd(net, keep_blobs=True, half=torch.bfloat16 if bfloat16 else None)
        value = float(step.forward_backward())
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        assert {p.dtype for p in net.parameters()} == {torch.float32}
        assert {g.dtype for g in grads} == {torch.float32}
        assert all(blob.data.dtype == np.float32 for blob in net.blobs.values())
        results.append((value, torch.cat([g.flatten().cpu() for g in grads])))
    (plain, plain_grads), (mixed, mixed_grads) = results
    assert mixed != plain
    assert mixed == pytest.approx(plain, rel=3e-2)
    cosine = torch.nn.functional.cosine_similarity(plain_grads, mixed_grads, dim=0)
    assert cosine > 0.99


IN_PLACE = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 8 dim: 16 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 32 bias_term: false } }
layer { name: "%s" type: "%s" bottom: "y" top: "%s" }
layer { name: "ip2" type: "InnerProduct" bottom: "%s" top: "z"
  inner_product_param { num_output: 4 bias_term: false } }
layer { name: "loss" type: "Reduction" bottom: "z" top: "loss" loss_weight: 1 }
"""


@pytest.mark.parametrize("kind", ["ReLU", "Sigmoid", "TanH"])
@pytest.mark.parametrize("top", ["y", "a"])
def test_activations_are_kept_once(make_net: NetMaker, kind: str, top: str) -> None:
    """What autograd keeps for the backward pass: the input, and the layer's top, not its bottom."""
    net = make_net(IN_PLACE % (kind, kind, top, top), caffe_pb2.TRAIN)
    weights = {w.untyped_storage().data_ptr() for layer in net.layers for w in layer.weights}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        blobs = net.propagate({"x": torch.randn(8, 16)}, ["loss"])
    assert blobs["loss"].requires_grad
    assert sum(kept.values()) == 4 * (8 * 16 + 8 * 32)


def test_constants_are_filled_once_and_then_the_users(make_net: NetMaker) -> None:
    net = make_net(
        'layer { name: "data" type: "DummyData" top: "x" top: "r" dummy_data_param {'
        ' shape { dim: 3 } data_filler { value: 3 } data_filler { type: "gaussian" } } }'
        'layer { name: "sum" type: "Reduction" bottom: "x" top: "sum" loss_weight: 1 }'
    )
    step = Autograd(net)
    assert step.forward().item() == 9
    net.blobs["x"].data[...] = 5
    assert step.forward().item() == 15
    drawn = net.blobs["r"].data.tolist()
    step.forward()
    assert net.blobs["r"].data.tolist() != drawn
