from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.net.build import build_net
from moka.schema import caffe_pb2, parse_text
from moka.weights.load import copy_weights

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


@pytest.mark.parametrize(
    ("a_shape", "shape"),
    [
        ((2, 3), (2, 3, 4, 2)),
        ((2, 3, 1, 1), (2, 3, 4, 2)),
        ((2, 3), (2, 3)),
        ((1, 2, 1), (1, 2, 5)),
    ],
)
def test_axpy(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    a_shape: Shape,
    shape: Shape,
) -> None:
    layer = make_layer('type: "Axpy"', a_shape, shape, shape)
    a, x, y = spread(*a_shape), spread(*shape), spread(*shape) + 0.5
    (top,) = run(layer, a, x, y)
    for n, c, *at in np.ndindex(*shape):
        wanted = a.reshape(shape[:2])[n, c] * x[n, c, *at] + y[n, c, *at]
        assert top[n, c, *at] == pytest.approx(wanted, rel=1e-12, abs=1e-15)  # double precision
    check_gradient(layer, a, x, y)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3), (2, 3, 4), (2, 3, 5)), r"x and y differ in shape: \(2, 3, 4\) and \(2, 3, 5\)"),
        (((2, 4), (2, 3, 4), (2, 3, 4)), r"one value for each item and channel of \(2, 3, 4\)"),
        (((2, 3, 2), (2, 3, 4), (2, 3, 4)), r"got shape \(2, 3, 2\)"),
        (((2,), (2,), (2,)), "one value for each item and channel"),
    ],
)
def test_axpy_refuses(make_layer: LayerMaker, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer('type: "Axpy"', *shapes)


@pytest.mark.parametrize(
    ("x_shape", "s_shape"), [((2, 3, 2, 4), (2, 1, 2, 4)), ((2, 3), (2, 1)), ((2, 3), (2,))]
)
def test_one_factor_for_each_position(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    x_shape: Shape,
    s_shape: Shape,
) -> None:
    layer = make_layer('type: "ChannelScale"', x_shape, s_shape)
    x, s = spread(*x_shape), spread(*s_shape)
    (y,) = run(layer, x, s)
    for n, c, *at in np.ndindex(*x_shape):
        wanted = x[n, c, *at] * s.reshape(x_shape[0], *x_shape[2:])[n, *at]
        assert y[n, c, *at] == pytest.approx(wanted, rel=1e-12)  # double precision
    check_gradient(layer, x, s)


@pytest.mark.parametrize(
    ("fields", "value", "dx", "ds"),
    [
        ("", 6, 3, 4),
        ("do_forward: false", 2, 3, 4),
        ("do_backward_feature: false", 6, 1, 4),
        ("do_backward_scale: false", 6, 3, 0),
        ("do_forward: false do_backward_feature: false do_backward_scale: false", 2, 1, 0),
        ("global_scale: true init_global_scale: 5", 10, 5, 0),
        ("global_scale: true init_global_scale: 5 max_global_scale: 4", 8, 4, 0),
        ("global_scale: true init_global_scale: -5 min_global_scale: 0.5", 1, 0.5, 0),
    ],
)
def test_what_the_factor_does(
    make_layer: LayerMaker, fields: str, value: float, dx: float, ds: float
) -> None:
    layer = make_layer(
        f'type: "ChannelScale" channel_scale_param {{ {fields} }}', (1, 2, 1), (1, 1, 1)
    )
    x = torch.tensor([[[2.0], [2.0]]], requires_grad=True)
    s = torch.tensor([[[3.0]]], requires_grad=True)
    (y,) = layer(x, s)
    assert y.flatten().tolist() == [value] * 2
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [dx] * 2
    assert (0 if s.grad is None else s.grad.item()) == ds


def test_the_global_factor_is_shown(make_layer: LayerMaker) -> None:
    text = 'type: "ChannelScale" top: "y" top: "s" channel_scale_param { global_scale: true }'
    layer = make_layer(text, (1, 2, 1), (1, 1, 1))
    assert layer.state_blobs == (0,)
    _, scale = layer(torch.ones(1, 2, 1), torch.ones(1, 1, 1))
    assert scale.tolist() == [1]


@pytest.mark.parametrize(
    ("tops", "s_shape", "message"),
    [
        ("", (2, 1, 5), r"one factor for each item and position of \(2, 3, 4\), got shape"),
        ("", (1, 2, 4), "one factor for each item"),
        ('top: "y" top: "s"', (2, 1, 4), "makes 1 top with these options, got 2"),
    ],
)
def test_channel_scale_refuses(
    make_layer: LayerMaker, tops: str, s_shape: Shape, message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "ChannelScale" {tops}', (2, 3, 4), s_shape)


def test_gram(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x = spread(2, 3, 2, 4)
    layer = make_layer('type: "Gram"', x.shape)
    have = run(layer, x)[0]
    assert have.shape == (2, 3, 3, 1)
    for n, a, b in np.ndindex(2, 3, 3):
        products = [p * q for p, q in zip(x[n, a].flat, x[n, b].flat, strict=True)]
        assert have[n, a, b, 0] == pytest.approx(sum(products) / (3 * 8))
    check_gradient(layer, x)


def test_slope(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x = spread(2, 3, 2, 4)
    layer = make_layer('type: "Slope"', x.shape)
    have = run(layer, x)[0]
    np.testing.assert_array_equal(have[:, :3], x)
    for n, i, j in np.ndindex(2, 2, 4):
        assert have[n, 3:, i, j].tolist() == pytest.approx([i / 2, j / 4])
    check_gradient(layer, x)
    with pytest.raises(NetError, match="takes images"):
        make_layer('type: "Slope"', (2, 3))


@pytest.mark.parametrize("minout", [False, True])
def test_maxout(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    *,
    minout: bool,
) -> None:
    x = spread(2, 6, 2, 3)
    fields = f"maxout_param {{ chgroup_sz: 3 minout: {str(minout).lower()} }}"
    layer = make_layer(f'type: "Maxout" top: "y" top: "mask" {fields}', x.shape)
    y, mask = run(layer, x)
    for n, c, i, j in np.ndindex(2, 2, 2, 3):
        group = x[n, 3 * c : 3 * c + 3, i, j]
        member = int(group.argmin() if minout else group.argmax())
        assert y[n, c, i, j] == group[member]
        assert mask[n, c, i, j] == ((3 * c + member) * 2 + i) * 3 + j
    check_gradient(make_layer(f'type: "Maxout" {fields}', x.shape), x)


def test_the_first_of_equal_channels_gets_the_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Maxout" maxout_param { chgroup_sz: 2 }', (1, 4, 1, 1))
    x = torch.tensor([3.0, 3, 1, 2], requires_grad=True)
    (y,) = layer(x.view(1, 4, 1, 1))
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("", (1, 4, 2, 2), "chgroup_sz is missing"),
        ("chgroup_sz: 3", (1, 4, 2, 2), "chgroup_sz 3 should divide the 4 channels"),
        ("chgroup_sz: 2", (1, 4), "takes images"),
    ],
)
def test_maxout_refuses(make_layer: LayerMaker, fields: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Maxout" maxout_param {{ {fields} }}', shape)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize("shared", [True, False])
def test_eltwise_affine(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    shape: Shape,
    *,
    shared: bool,
) -> None:
    fields = f"channel_shared: {str(shared).lower()}"
    layer = make_layer(f'type: "EltwiseAffine" eltwise_affine_param {{ {fields} }}', shape)
    blob = () if shared else (3,)
    assert layer.blob_shapes == [blob, blob]
    for weight, value in zip(layer.weights, (1.0001, 0.0001), strict=True):
        np.testing.assert_allclose(weight.detach(), value, rtol=1e-6)
    slope, bias = np.full(3, 2.0), np.full(3, -1.0)
    if not shared:
        slope, bias = np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.25, -1.0])
    for weight, values in zip(layer.weights, (slope, bias), strict=True):
        weight.data.copy_(torch.tensor(values[0] if shared else values))
    x, rest = spread(*shape), (1,) * (len(shape) - 2)
    want = x * slope.reshape(3, *rest) + bias.reshape(3, *rest)
    np.testing.assert_allclose(run(layer, x)[0], want, rtol=1e-12)
    check_gradient(layer, x)


def test_eltwise_affine_takes_the_blobs_of_a_model() -> None:
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
        layer { name: "a" type: "EltwiseAffine" bottom: "x" top: "x" }"""
    net = build_net(parse_text(text, caffe_pb2.NetParameter))
    model = caffe_pb2.NetParameter()
    stored = model.layer.add(name="a", type="EltwiseAffine")
    for values in ([2, 3], [10, 20]):
        stored.blobs.add(data=values).shape.dim.append(2)
    copy_weights(net, model)
    assert net(x=torch.tensor([[1.0, 1.0]]))["x"].tolist() == [[12, 23]]


def test_eltwise_affine_is_filled(make_layer: LayerMaker) -> None:
    fields = "slope_filler { value: 3 } bias_filler { value: 4 }"
    layer = make_layer(f'type: "EltwiseAffine" eltwise_affine_param {{ {fields} }}', (1, 2))
    assert [w.tolist() for w in layer.weights] == [[3, 3], [4, 4]]
    with pytest.raises(NetError, match="at least 2 axes"):
        make_layer('type: "EltwiseAffine"', (2,))
