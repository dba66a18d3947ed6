from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError, WeightsError
from moka.net import Net
from moka.net.build import build_net
from moka.schema import caffe_pb2, parse_text
from moka.weights.load import copy_weights

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape

X = (2, 3, 4, 5)
SCALED = 'type: "Normalize" norm_param {{ {} }}'
PLAIN = 'type: "Normalize" normalize_param {{ {} }}'


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_each_value_is_divided_by_its_norm_and_scaled(
    make_layer: LayerMaker, run: Runner, spread: Spread, across: bool, shared: bool
) -> None:
    fields = f"across_spatial: {across} channel_shared: {shared}".lower() + " eps: 0.5"
    layer = make_layer(SCALED.format(fields + ' scale_filler { type: "constant" value: 20 }'), X)
    assert layer.blob_shapes == [() if shared else (3,)]
    x = spread(*X)
    if not shared:
        layer.weights[0].data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    scale = np.full(3, 20.0) if shared else np.array([1.0, 2.0, 3.0])
    (y,) = run(layer, x)
    axes = (1, 2, 3) if across else (1,)
    want = x / np.sqrt((x**2).sum(axes, keepdims=True) + 0.5) * scale.reshape(1, 3, 1, 1)
    np.testing.assert_allclose(y, want, rtol=1e-12)


@pytest.mark.parametrize(
    "fields", ["", "across_spatial: false channel_shared: false", "fix_scale: false"]
)
def test_gradient(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread, fields: str
) -> None:
    check_gradient(make_layer(SCALED.format(fields), (2, 3, 2)), spread(2, 3, 2))


@pytest.mark.parametrize("across", [True, False])
def test_gradient_is_scaled_after_the_norm(
    make_layer: LayerMaker, spread: Spread, across: bool
) -> None:
    """As in SSD, which is not the derivative where scales differ; the scale's own gradient is."""
    fields = f"channel_shared: false across_spatial: {across} eps: 0.5".lower()
    layer = make_layer(SCALED.format(fields), X)
    scale = torch.tensor([1.0, 2.0, 30.0])
    layer.weights[0].data.copy_(scale)
    x = torch.from_numpy(spread(*X)).float().requires_grad_()
    d = torch.from_numpy(np.random.default_rng(3).normal(size=X)).float()
    (y,) = layer(x)
    torch.autograd.backward(y, d)
    axes = (1, 2, 3) if across else (1,)
    norm = (x.detach().square().sum(axes, keepdim=True) + 0.5).sqrt()
    unit = x.detach() / norm
    want = scale.view(1, 3, 1, 1) * (d - unit * (unit * d).sum(axes, keepdim=True)) / norm
    assert x.grad is not None
    torch.testing.assert_close(x.grad, want)
    assert layer.weights[0].grad is not None
    torch.testing.assert_close(layer.weights[0].grad, (unit * d).sum((0, 2, 3)))


def test_a_fixed_scale_gets_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer(SCALED.format("fix_scale: true"), X)
    y = layer(torch.ones(X, requires_grad=True))
    torch.autograd.backward(y[0].sum())
    assert layer.weights[0].grad is None


@pytest.mark.parametrize(("kind", "power"), [("L2", 2), ("L1", 1)])
def test_plain_form(
    make_layer: LayerMaker, run: Runner, spread: Spread, kind: str, power: int
) -> None:
    layer = make_layer('top: "y" top: "norm" ' + PLAIN.format(f'normalize_type: "{kind}"'), X)
    assert not layer.weights
    x = spread(*X)
    y, norm = run(layer, x)
    want = (np.abs(x) ** power).sum(1, keepdims=True) ** (1 / power)
    np.testing.assert_allclose(norm, want, rtol=1e-12)
    np.testing.assert_allclose(y, x / want, rtol=1e-12)


@pytest.mark.parametrize("fields", ["", 'normalize_type: "L1"', "bp_norm: true"])
def test_gradient_of_plain_form(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread, fields: str
) -> None:
    tops = 'top: "y" top: "norm" ' if "bp_norm" in fields else ""
    check_gradient(make_layer(tops + PLAIN.format(fields), (2, 3, 2)), spread(2, 3, 2))


def test_fixed_gradient_takes_the_norm_for_a_constant(make_layer: LayerMaker) -> None:
    layer = make_layer(PLAIN.format("fix_gradient: true"), (1, 2))
    x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    torch.autograd.backward(layer(x)[0].sum())
    torch.testing.assert_close(x.grad, torch.full((1, 2), 0.2))


def test_faults(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match='normalize_type must be L2 or L1, got "L3"'):
        make_layer(PLAIN.format('normalize_type: "L3"'), X)
    with pytest.raises(NetError):
        make_layer(SCALED.format(""), (2,))


def net_with_normalize(fields: str, dims: str) -> Net:
    dim = " ".join(f"dim: {n}" for n in dims.split())
    return build_net(
        parse_text(
            f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dim} }} }} }}
            layer {{ name: "n" type: "Normalize" bottom: "x" top: "y" {fields} }}""",
            caffe_pb2.NetParameter,
        )
    )


def model_without_blob() -> caffe_pb2.NetParameter:
    return caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="n", type="Normalize")])


@pytest.mark.parametrize("dims", ["2 3", "2 3 1 1"])
def test_a_model_without_the_scale_of_a_layer_without_a_message(dims: str) -> None:
    net = net_with_normalize("", dims)
    net.layers[1].weights[0].data.fill_(5)
    assert copy_weights(net, model_without_blob()) == []
    x = torch.rand(*(int(n) for n in dims.split()))
    torch.testing.assert_close(net(x=x)["y"], torch.nn.functional.normalize(x))


@pytest.mark.parametrize(
    ("fields", "dims"), [("", "2 3 2 2"), ("norm_param { across_spatial: false }", "2 3")]
)
def test_a_model_without_the_scale_of_another_layer_is_refused(fields: str, dims: str) -> None:
    with pytest.raises(WeightsError, match=r"give the layer normalize_param \{ \}"):
        copy_weights(net_with_normalize(fields, dims), model_without_blob())


def test_a_layer_with_the_other_message_needs_no_scale() -> None:
    net = net_with_normalize("normalize_param { }", "2 3 2 2")
    copy_weights(net, model_without_blob())
    x = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(net(x=x)["y"], torch.nn.functional.normalize(x))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2), (4,)])
def test_normalization(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    shape: Shape,
) -> None:
    x = spread(*shape)
    layer = make_layer('type: "Normalization"', shape)
    norms = np.sqrt((x.reshape(shape[0], -1) ** 2).sum(1))
    wanted = x / norms.reshape(-1, *(1,) * (len(shape) - 1))
    np.testing.assert_allclose(run(layer, x)[0], wanted, rtol=1e-12)  # double precision
    check_gradient(layer, x)


def test_normalization_of_zeros(make_layer: LayerMaker, run: Runner) -> None:
    assert not run(make_layer('type: "Normalization"', (2, 3)), np.zeros((2, 3)))[0].any()


@pytest.mark.parametrize(
    ("text", "shape", "axes", "eps"),
    [
        ('type: "L2Norm"', (2, 3, 2, 2), (1, 2, 3), 0),
        ('type: "L2Norm" l2norm_param { eps: 0.5 }', (2, 3), (1,), 0.5),
        ('type: "L2Normalization"', (2, 3), (1,), 0),
        ('type: "L2Normalization"', (2, 3, 1, 1), (1, 2, 3), 0),
        ('type: "Norm"', (2, 3, 2, 2), (1,), 1e-6),
    ],
)
def test_norms_of_many_forks(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    text: str,
    shape: Shape,
    axes: tuple[int, ...],
    eps: float,
) -> None:
    x = spread(*shape)
    layer = make_layer(text, shape)
    wanted = x / (np.sqrt((x**2).sum(axes, keepdims=True)) + eps)
    np.testing.assert_allclose(run(layer, x)[0], wanted, rtol=1e-12)  # double precision
    check_gradient(layer, x)
    assert not run(layer, np.zeros(shape))[0].any()


def test_items_of_several_positions_where_forks_differ(make_layer: LayerMaker) -> None:
    with pytest.raises(
        NetError, match=r"several positions, as in \(2, 3, 2, 1\): write type: \"Norm"
    ):
        make_layer('type: "L2Normalization"', (2, 3, 2, 1))
