"""Blobs in half precision, as NVCaffe's nets ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import moka
from moka.engine.autograd import Autograd
from moka.engine.layerwise import Layerwise
from moka.net import Net, build_net
from moka.net.half import in_float32
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

NET = """
%s
layer { name: "in" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 3 dim: 7 } shape { dim: 3 dim: 5 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "one" %s
        inner_product_param { num_output: 6 weight_filler { type: "gaussian" } } }
layer { name: "relu" type: "ReLU" bottom: "one" top: "one" }
layer { name: "two" type: "InnerProduct" bottom: "one" top: "two"
        inner_product_param { num_output: 5 weight_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "two" bottom: "t" top: "loss" }
"""
BOTH = "default_forward_type: FLOAT16 default_backward_type: FLOAT16"


def make(net: str = "", layer: str = "", scale: float = 1) -> Net:
    torch.manual_seed(0)
    made = build_net(parse_text(NET % (net, layer), caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    rng = np.random.default_rng(1)
    for name in ("x", "t"):
        made.blobs[name].data[...] = scale * rng.normal(size=made.blobs[name].shape)
    return made


def half(x: Array) -> Array:
    return x.astype(np.float16).astype(np.float32)


def weights(net: Net) -> list[Array]:
    return [w.detach().numpy() for layer in net.layers for w in layer.weights]


@pytest.mark.parametrize("engine", [Autograd, Layerwise])
def test_tops_are_rounded(engine: type[Autograd] | type[Layerwise]) -> None:
    net = make("default_forward_type: FLOAT16")
    w1, b1, w2, b2 = weights(net)
    x, t = (net.blobs[name].data.copy() for name in ("x", "t"))
    one = half(np.maximum(half(x @ w1.T + b1), 0))
    two = half(one @ w2.T + b2)
    loss = float(engine(net).forward())
    assert loss == pytest.approx(((two - t) ** 2).sum() / 6, rel=1e-5)
    exact = make()
    assert float(engine(exact).forward()) != loss
    if engine is Layerwise:
        np.testing.assert_allclose(net.blobs["two"].data, two, rtol=1e-3)
        np.testing.assert_array_equal(net.blobs["two"].data, half(net.blobs["two"].data))
        np.testing.assert_array_equal(net.blobs["x"].data, x)  # data stays as it is
        assert (exact.blobs["two"].data != half(exact.blobs["two"].data)).any()


@pytest.mark.parametrize("engine", [Autograd, Layerwise])
def test_gradients_are_rounded(engine: type[Autograd] | type[Layerwise]) -> None:
    net = make("default_backward_type: FLOAT16")
    w1, b1, w2, b2 = weights(net)
    x, t = net.blobs["x"].data, net.blobs["t"].data
    one = np.maximum(x @ w1.T + b1, 0)
    d_two = half((one @ w2.T + b2 - t) / 3)
    d_one = half(half(d_two @ w2) * (one > 0))
    engine(net).forward_backward()
    grads = [w.grad.numpy() for layer in net.layers for w in layer.weights if w.grad is not None]
    for have, want in zip(grads, (d_one.T @ x, d_one.sum(0), d_two.T @ one, d_two.sum(0)),
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(have, want, rtol=2e-3, atol=1e-5)
    exact = make()
    engine(exact).forward_backward()
    first = next(layer for layer in exact.layers if layer.weights).weights[0]
    assert first.grad is not None
    assert (first.grad.numpy() != grads[0]).any()


def gradients(net: Net) -> Array:
    Autograd(net).forward_backward()
    return np.concatenate(
        [w.grad.numpy().ravel() for layer in net.layers for w in layer.weights
         if w.grad is not None]
    )  # fmt: skip


def test_a_scale_keeps_small_gradients() -> None:
    tiny = 1e-7  # of the data, and so of the gradients: float16 ends at 6e-8
    half_diffs = "default_backward_type: FLOAT16"
    lost = gradients(make(half_diffs, scale=tiny))
    kept = gradients(make(f"{half_diffs} global_grad_scale: 100000", scale=tiny))
    exact = gradients(make(scale=tiny))
    assert np.abs(exact).max() > 0
    assert np.abs(lost - exact).max() > 0.05 * np.abs(exact).max()
    np.testing.assert_allclose(kept, exact, atol=0.002 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("net", "layer", "rounded"),
    [
        (BOTH, "", {"one", "relu", "two"}),
        (BOTH, "forward_type: FLOAT backward_type: FLOAT", {"relu", "two"}),
        ("", "forward_type: FLOAT16", {"one"}),
        ("default_forward_type: FLOAT", "", set()),
        ("default_forward_type: DOUBLE", "", set()),
        ("global_grad_scale: 9", "", set()),
    ],
)
def test_which_layers(net: str, layer: str, rounded: set[str]) -> None:
    made = make(net, layer)
    assert {place.node.name for place in made.places if place.half} == rounded


def test_views_and_what_has_no_gradient_stay() -> None:
    text = f"""
    {BOTH} input: "x" input_shape {{ dim: 2 dim: 3000 }}
    layer {{ name: "flat" type: "Flatten" bottom: "x" top: "flat" }}
    layer {{ name: "best" type: "ArgMax" bottom: "flat" top: "best" }}
    layer {{ name: "a" type: "AbsVal" bottom: "flat" top: "a" }}
    """
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TEST)
    assert {p.node.name for p in net.places if p.half} == {"a"}
    x = torch.zeros(2, 3000)
    x[:, 2999] = 1
    assert net(x)["best"].flatten().tolist() == [2999, 2999]  # 3000 in float16


def test_exports_are_float32(tmp_path: Path) -> None:
    net = moka.load(parse_text(f"""
    {BOTH} input: "x" input_shape {{ dim: 2 dim: 7 }}
    layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "y"
            inner_product_param {{ num_output: 9 weight_filler {{ type: "gaussian" }} }} }}
    """, caffe_pb2.NetParameter))  # fmt: skip
    x = torch.rand(2, 7)
    stored = net(x)["y"]
    with in_float32():
        exact = net(x)["y"]
    assert torch.equal(stored, exact.half().float())
    assert not torch.equal(stored, exact)
    moka.export(net, tmp_path / "net.onnx")
    moka.export(net, tmp_path / "net.py")
