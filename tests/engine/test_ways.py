"""Which layers of a pass do the work of the one before, or write over its blob."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch

from moka.engine.autograd import Autograd
from moka.engine.layerwise import Layerwise
from moka.engine.ways import Ways, find_ways
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text

DATA = """
layer { name: "data" type: "Input" top: "x" top: "t" input_param {
  shape { dim: 4 dim: 3 dim: 5 dim: 5 } shape { dim: 4 dim: 2 dim: 5 dim: 5 } } }
"""
CONV = """
layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
"""
LOSS = 'layer { name: "loss" type: "EuclideanLoss" bottom: "%s" bottom: "t" top: "loss" }'


def conv(name: str, bottom: str, top: str) -> str:
    return CONV % (name, bottom, top)


def layer(name: str, kind: str, bottom: str, top: str, fields: str = "") -> str:
    bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top}" {fields} }}\n'


BIAS = "scale_param { bias_term: true }"
RESIDUAL = (
    DATA
    + conv("conv0", "x", "y")
    + layer("relu0", "ReLU", "y", "y")
    + conv("conv1", "y", "a")
    + layer("norm", "BatchNorm", "a", "a")
    + layer("scale", "Scale", "a", "a", BIAS)
    + layer("sum", "Eltwise", "y a", "sum")
    + layer("relu", "ReLU", "sum", "sum", "relu_param { negative_slope: 0.1 }")
    + LOSS % "sum"
)
# The blobs between have names of their own.
APART = (
    DATA
    + conv("conv", "x", "a")
    + layer("norm", "BatchNorm", "a", "b")
    + layer("scale", "Scale", "b", "c", BIAS)
    + layer("relu", "ReLU", "c", "d")
    + LOSS % "d"
)


def build(text: str) -> Net:
    torch.manual_seed(3)
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    for name in net.graph.inputs:
        net.blobs[name].data_memory.put(torch.randn(net.blobs[name].data_memory.shape))
    return net


def names(net: Net, keep: Collection[str] | None = (), cuts: tuple[int, ...] = ()) -> set[str]:
    return {net.places[i].node.name for i in find_ways(net, keep, cuts)}


def test_merged_layers_and_layers_that_write_over_their_bottom() -> None:
    assert names(build(RESIDUAL)) == {"relu0", "norm", "scale", "sum", "relu"}
    assert names(build(APART)) == {"norm", "scale", "relu"}


def test_blobs_that_somebody_sees_stay() -> None:
    assert names(build(RESIDUAL), None) == {"relu0", "norm", "scale", "relu"}  # `a` is seen
    assert names(build(APART), None) == set()
    assert names(build(APART), {"b"}) == {"relu"}
    assert names(build(APART), {"c"}) == {"norm", "scale"}


def test_a_blob_that_another_layer_reads_stays() -> None:
    text = APART + layer("other", "Reduction", "c", "extra")
    assert names(build(text)) == {"norm", "scale"}  # a Split stands between


def test_no_blob_is_written_over_from_behind_a_cut() -> None:
    net = build(APART)
    relu = next(place.index for place in net.places if place.node.name == "relu")
    assert names(net, (), (relu, len(net.places))) == {"norm", "scale"}


@pytest.mark.parametrize(
    "changed",
    [
        layer("scale", "Scale", "b", "c", "scale_param { axis: 2 }"),
        layer("scale", "Scale", "b", "c", "scale_param { num_axes: 0 }"),
        layer("scale", "Scale", "b", "c", "propagate_down: false"),
        layer("scale", "Bias", "b", "c"),
    ],
)
def test_only_a_factor_for_each_channel_is_merged(changed: str) -> None:
    text = APART.replace(layer("scale", "Scale", "b", "c", BIAS), changed)
    assert text != APART
    assert names(build(text)) == {"relu"}


@pytest.mark.parametrize(
    "fields", ["scale_bias: true", "relu: true", "disable_mean: true", "disable_variance: true"]
)
def test_a_norm_that_does_more_is_not_merged(fields: str) -> None:
    norm = layer("norm", "BatchNorm", "a", "b")
    more = layer("norm", "BatchNorm", "a", "b", f"batch_norm_param {{ {fields} }}")
    assert names(build(APART.replace(norm, more))) == {"relu"}


def test_a_relu_that_others_follow_looks_at_the_last_blob() -> None:
    text = APART.replace(LOSS % "d", layer("drop", "Dropout", "d", "d") + LOSS % "d")
    text = text.replace(layer("relu", "ReLU", "c", "d"), layer("relu", "ReLU", "d", "d"))
    text = text.replace(layer("scale", "Scale", "b", "c", BIAS),
                        layer("scale", "Scale", "b", "d", BIAS))  # fmt: skip
    assert names(build(text)) == {"norm", "scale"}


def test_layers_with_hooks_run_as_they_are() -> None:
    net = build(APART)
    ways = Ways(net)
    assert len(ways.of_pass(())) == 3
    seen = []
    scale = next(place.layer for place in net.places if place.node.name == "scale")
    hook = scale.register_forward_hook(lambda _, x, top: seen.append(x[0].detach().mean()))
    assert not ways.of_pass(())
    Autograd(net).forward_backward()
    assert float(seen[0]) == pytest.approx(0, abs=1e-6)  # the norm's top, not its bottom
    hook.remove()


SUMS = layer("norm", "BatchNorm", "a", "b", "batch_norm_param { use_global_stats: true }")


@pytest.mark.parametrize(
    "text",
    [
        RESIDUAL,
        APART,
        APART.replace(BIAS, ""),
        APART.replace(layer("norm", "BatchNorm", "a", "b"), SUMS),
        APART.replace(layer("scale", "Scale", "b", "c", BIAS),
                      layer("scale", "Scale", "b", "c", f"{BIAS} param {{ lr_mult: 0 }}")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("keep_blobs", [False, True])
def test_the_numbers_are_those_of_the_layers(text: str, keep_blobs: bool) -> None:
    one, other = build(text), build(text)
    step, layers = Autograd(one, keep_blobs=keep_blobs), Layerwise(other)
    for _ in range(2):
        torch.testing.assert_close(step.forward_backward(), layers.forward_backward())
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)  # BatchNorm's sums too
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_mixed_precision_merges_and_gives_the_others_float32() -> None:
    text = RESIDUAL.replace(LOSS % "sum", layer("lrn", "LRN", "sum", "sum") + LOSS % "sum")
    ways = {
        place.node.name: type(found[place.index]).__name__
        for net in [build(text)]
        for found in [find_ways(net, (), in_half=True)]
        for place in net.places
        if place.index in found
    }
    assert ways["scale"] == "_Scaled"
    assert ways["lrn"] == ways["loss"] == "InFloat32"
    assert not {"conv1", "data"} & ways.keys()


@pytest.mark.parametrize("text", [RESIDUAL, APART], ids=["residual", "apart"])
def test_mixed_precision_trains_like_float32(text: str) -> None:
    one, other = build(text), build(text)
    half, single = Autograd(one, half=torch.bfloat16), Autograd(other)
    torch.testing.assert_close(
        half.forward_backward(), single.forward_backward(), rtol=0.02, atol=0
    )
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.02, atol=1e-3)  # BatchNorm's sums
        if a.grad is not None and b.grad is not None:
            spread = float(b.grad.abs().max()) + 0.1
            torch.testing.assert_close(a.grad, b.grad, rtol=0.05, atol=0.05 * spread)
