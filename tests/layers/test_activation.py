from __future__ import annotations

from collections.abc import Callable
from math import exp, log, log1p
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.engine.layerwise import Layerwise
from moka.errors import NetError
from moka.layers.activation import ReLU

if TYPE_CHECKING:
    from tests.conftest import NetMaker
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.layers import Layer
    from moka.types import Shape


def tanh(x: float) -> float:
    return (1 - exp(-2 * x)) / (1 + exp(-2 * x))


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ('type: "ReLU"', lambda x: max(x, 0.0)),
        (
            'type: "ReLU" relu_param { negative_slope: 0.25 }',
            lambda x: max(x, 0.0) + 0.25 * min(x, 0.0),
        ),
        (
            'type: "ReLU" relu_param { negative_slope: -0.5 }',
            lambda x: max(x, 0.0) - 0.5 * min(x, 0.0),
        ),
        ('type: "ReLU6"', lambda x: min(max(x, 0.0), 6.0)),
        (
            'type: "ReLU6" relu6_param { negative_slope: 0.25 }',
            lambda x: min(max(x, 0.0) + 0.25 * min(x, 0.0), 6.0),
        ),
        ('type: "NegReLU"', lambda x: min(x, 0.0)),
        (
            'type: "NegReLU" relu_param { negative_slope: 0.25 }',
            lambda x: min(x, 0.0) + 0.25 * max(x, 0.0),
        ),
        ('type: "Truncation"', lambda x: min(max(x, 0.0), 5.0)),
        (
            'type: "Truncation" truncation_param { lower_bound: -0.125 upper_bound: 0.3125 }',
            lambda x: min(max(x, -0.125), 0.3125),
        ),
        ('type: "SoftTruncation"', lambda x: 1 - exp(-x / 2)),
        ('type: "SoftTruncation" soft_truncation_param { c: -0.5 }', lambda x: 1 - exp(2 * x)),
        ('type: "Sigmoid"', lambda x: 1 / (1 + exp(-x))),
        ('type: "TanH"', tanh),
        ('type: "Dropout"', lambda x: x),
        ('type: "AbsVal"', abs),
        ('type: "BNLL"', lambda x: log1p(exp(x))),
        (
            'type: "Clip" clip_param { min: -0.125 max: 0.3125 }',
            lambda x: min(max(x, -0.125), 0.3125),
        ),
        ('type: "ELU"', lambda x: x if x > 0 else exp(x) - 1),
        ('type: "ELU" elu_param { alpha: 0.5 }', lambda x: x if x > 0 else 0.5 * (exp(x) - 1)),
        ('type: "ELU" elu_param { alpha: 0 }', lambda x: max(x, 0.0)),
        ('type: "Exp"', exp),
        ('type: "Exp" exp_param { base: 2 }', lambda x: 2**x),
        (
            'type: "Exp" exp_param { base: 0.5 scale: -2 shift: 3 }',
            lambda x: 0.5 ** (3 - 2 * x),
        ),
        ('type: "Exp" exp_param { scale: 0.5 shift: -1 }', lambda x: exp(0.5 * x - 1)),
        ('type: "Log" log_param { shift: 8 }', lambda x: log(8 + x)),
        (
            'type: "Log" log_param { base: 2 scale: -0.5 shift: 4 }',
            lambda x: log(4 - 0.5 * x) / log(2),
        ),
        ('type: "Log" log_param { base: 0.5 shift: 8 }', lambda x: log(8 + x) / log(0.5)),
        ('type: "Power"', lambda x: x),
        ('type: "Power" power_param { scale: -2 shift: 3 }', lambda x: 3 - 2 * x),
        ('type: "Power" power_param { power: 2 shift: 0.5 }', lambda x: (x + 0.5) ** 2),
        ('type: "Power" power_param { power: 3 }', lambda x: x**3),
        ('type: "Power" power_param { power: -1 }', lambda x: 1 / x),
        (
            'type: "Power" power_param { power: 1.5 scale: 0.5 shift: 4 }',
            lambda x: (4 + 0.5 * x) ** 1.5,
        ),
        ('type: "Swish"', lambda x: x / (1 + exp(-x))),
        ('type: "Swish" swish_param { beta: 2 }', lambda x: x / (1 + exp(-2 * x))),
    ],
)
def test_element_by_element(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    text: str,
    formula: Callable[[float], float],
    shape: Shape,
) -> None:
    layer = make_layer(text, shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = np.array([formula(float(v)) for v in x.flat]).reshape(shape)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


def gradient_at(layer: Layer, *values: float) -> list[float]:
    """dy / dx of a layer without interaction between elements."""
    x = torch.tensor([values], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    found: list[float] = x.grad[0].tolist()
    return found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('type: "ReLU"', 0),
        ('type: "ReLU" relu_param { negative_slope: 0.25 }', 0.25),
        ('type: "ReLU6"', 0),
        ('type: "NegReLU" relu_param { negative_slope: 0.25 }', 0.25),
        ('type: "ReLU6" relu6_param { negative_slope: 0.25 }', 0.25),
        ('type: "PReLU"', 0.25),
        ('type: "PReLU" prelu_param { channel_shared: true filler { value: -2 } }', -2),
        ('type: "ELU"', 1),
        ('type: "ELU" elu_param { alpha: 0.5 }', 0.5),
        ('type: "AbsVal"', 0),
        ('type: "Clip" clip_param { min: 0 max: 1 }', 1),
        ('type: "Clip" clip_param { min: -1 max: 0 }', 1),
        ('type: "Truncation" truncation_param { lower_bound: 0 upper_bound: 1 }', 1),
        ('type: "Truncation" truncation_param { lower_bound: -1 upper_bound: 0 }', 1),
        ('type: "Power" power_param { power: 3 }', 0),
        ('type: "Power" power_param { power: 2 scale: 3 shift: 2 }', 12),
    ],
)
def test_gradient_at_zero(make_layer: LayerMaker, text: str, wanted: float) -> None:
    assert gradient_at(make_layer(text, (1, 1)), 0.0) == [wanted]


CHAIN = """
force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 } } }
layer { name: "p" type: "Power" bottom: "x" top: "y" }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" relu_param { negative_slope: 0.5 } }
layer { name: "shift" type: "Power" bottom: "y" top: "y" power_param { scale: 3 shift: %s } }
layer { name: "scale" type: "Power" bottom: "y" top: "y" power_param { scale: %s } }
"""


@pytest.mark.parametrize(
    ("shift", "scale", "slopes"),
    [(0, 1, (0.5, 0.5, 1, 1)), (6, 1, (0.5, 1, 1, 1)), (0, -1, (1, 1, 0.5, 0.5))],
)
def test_relu_takes_its_sign_from_what_in_place_layers_leave(
    make_net: NetMaker, shift: float, scale: float, slopes: tuple[float, ...]
) -> None:
    """BVLC Caffe's gradient, in both engines: the blob's last values decide."""
    net = make_net(CHAIN % (shift, scale))
    x = torch.tensor([-8.0, -1, 1, 4])
    wanted = [3 * scale * slope for slope in slopes]
    tracked = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(net.propagate({"x": tracked})["y"].sum(), tracked)
    assert grad.tolist() == wanted
    engine = Layerwise(net)
    net.blobs["x"].data[...] = x.numpy()
    engine.forward()
    net.blobs["y"].diff[...] = 1
    engine.backward()
    assert net.blobs["x"].diff.tolist() == wanted


def test_relu_in_place_alone_has_its_own_gradient(make_net: NetMaker) -> None:
    net = make_net(CHAIN.split('layer { name: "shift"')[0])
    x = torch.tensor([-8.0, 0, 1, 4], requires_grad=True)
    (grad,) = torch.autograd.grad(net.propagate({"x": x})["y"].sum(), x)
    assert grad.tolist() == [0.5, 0.5, 1, 1]


def test_relu_keeps_nothing_of_a_chain_after_the_pass(make_net: NetMaker) -> None:
    net = make_net(CHAIN % (0, 1))
    net.propagate({"x": torch.ones(4, requires_grad=True)})
    relu = net.layers[2]
    assert isinstance(relu, ReLU)
    assert relu._final is None


def test_sigmoid_and_tanh_at_their_ends(make_layer: LayerMaker, run: Runner) -> None:
    ends = np.array([-1000.0, 1000.0])
    assert run(make_layer('type: "Sigmoid"', (2,)), ends)[0].tolist() == [0, 1]
    assert run(make_layer('type: "TanH"', (2,)), ends)[0].tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("fields", "shape", "axis"),
    [("", (2, 4), 1), ("axis: 2", (2, 2, 3), 2), ("axis: -3", (2, 3, 2, 2), 1), ("", (2, 3, 2), 1)],
)
def test_softmax(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    axis: int,
) -> None:
    layer = make_layer(f'type: "Softmax" softmax_param {{ {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = np.zeros(shape)
    for at in np.ndindex(*shape):
        line = [exp(x[(*at[:axis], k, *at[axis + 1 :])]) for k in range(shape[axis])]
        wanted[at] = line[at[axis]] / sum(line)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


def test_softmax_of_huge_scores(make_layer: LayerMaker, run: Runner) -> None:
    (y,) = run(make_layer('type: "Softmax"', (1, 3)), np.array([[1e4, 1e4, -1e4]]))
    assert y.tolist() == [[0.5, 0.5, 0.0]]


def test_softmax_axis_has_to_exist(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="axis 2 does not exist"):
        make_layer('type: "Softmax" softmax_param { axis: 2 }', (2, 3))


def test_clip_takes_nan_for_the_least(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "Clip" clip_param { min: -0.5 max: 2 }', (1, 4))
    values = [np.nan, -np.inf, np.inf, 2.0]
    assert run(layer, np.array([values]))[0].tolist() == [[-0.5, -0.5, 2, 2]]
    assert gradient_at(layer.float(), *values) == [0, 0, 0, 1]


def test_clip_to_bounds_that_cross_is_min(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Clip" clip_param { min: 1 max: -2 }', (3,))
    x = torch.tensor([-3.0, 0.0, 2.0], requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.tolist() == [1, 1, 1]
    assert x.grad is not None
    assert not x.grad.any()


def test_prelu_takes_no_other_number_of_channels(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "PReLU"', (2, 3))
    assert layer.top_shapes((4, 3, 5)) == [(4, 3, 5)]
    with pytest.raises(NetError, match=r"slopes for 3 channels, got a bottom of shape \(2, 4\)"):
        layer.top_shapes((2, 4))
    shared = make_layer('type: "PReLU" prelu_param { channel_shared: true }', (2, 3))
    assert shared.top_shapes((2, 4)) == [(2, 4)]


def test_bnll_of_huge_values(make_layer: LayerMaker, run: Runner) -> None:
    (y,) = run(make_layer('type: "BNLL"', (3,)), np.array([-1000.0, 60.0, 1000.0]))
    assert y.tolist() == [0, 60, 1000]


@pytest.mark.parametrize(
    ("fields", "constant"),
    [
        ("power: 0", 1.0),
        ("power: 0 shift: 3", 1.0),
        ("power: 0 scale: 0", 1.0),
        ("power: 3 scale: 0 shift: 2", 8.0),
        ("power: 0.5 scale: 0", 0.0),
        ("power: -1 scale: 0", np.inf),
        ("power: 0.5 scale: 0 shift: -1", np.nan),
    ],
)
def test_power_without_an_input_is_a_constant(
    make_layer: LayerMaker, run: Runner, fields: str, constant: float
) -> None:
    layer = make_layer(f'type: "Power" power_param {{ {fields} }}', (3,))
    (y,) = run(layer, np.array([0.0, -2.0, np.nan]))
    np.testing.assert_array_equal(y, [constant] * 3)
    assert not layer(torch.ones(3, requires_grad=True)).requires_grad


@pytest.mark.parametrize(("threshold", "wanted"), [(0.0, [0, 0, 1, 1]), (0.5, [0, 0, 0, 1])])
def test_threshold_is_strict_and_has_no_gradient(
    make_layer: LayerMaker, run: Runner, threshold: float, wanted: list[float]
) -> None:
    layer = make_layer(f'type: "Threshold" threshold_param {{ threshold: {threshold} }}', (4,))
    x = np.array([-1.0, 0.0, 0.5, 0.75])
    assert run(layer, x)[0].tolist() == wanted
    assert not layer(torch.ones(4, requires_grad=True)).requires_grad


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 2, 2)])
@pytest.mark.parametrize("shared", [True, False])
def test_prelu(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    shared: bool,
    shape: Shape,
) -> None:
    fields = 'filler { type: "gaussian" }' + " channel_shared: true" * shared
    layer = make_layer(f'type: "PReLU" prelu_param {{ {fields} }}', shape)
    assert layer.blob_shapes == [() if shared else (3,)]
    x = spread(*shape)
    (y,) = run(layer, x)
    slopes = np.broadcast_to(layer.weights[0].detach().numpy(), 3)
    for at in np.ndindex(*shape):
        assert y[at] == pytest.approx(x[at] * (1 if x[at] > 0 else slopes[at[1]]), rel=1e-12)
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "slope"), [("", 0.25), ("filler { value: 0.5 }", 0.5), ("filler { }", 0)]
)
def test_prelu_starts_with_a_slope_of_a_quarter(
    make_layer: LayerMaker, fields: str, slope: float
) -> None:
    layer = make_layer(f'type: "PReLU" prelu_param {{ {fields} }}', (2, 3))
    assert layer.weights[0].tolist() == [slope] * 3


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ('type: "AbsVal" bottom: "x" top: "x"', (3,), "does not allow in-place"),
        ('type: "Exp" exp_param { base: 0 }', (3,), "base must be > 0, or -1 for e, got 0"),
        ('type: "Exp" exp_param { base: -2 }', (3,), "base must be > 0, or -1 for e, got -2"),
        ('type: "Log" log_param { base: 0 }', (3,), "base must be > 0 and not 1, or -1 for e"),
        ('type: "Log" log_param { base: 1 }', (3,), "base must be > 0 and not 1, or -1 for e"),
        (
            'type: "SoftTruncation" soft_truncation_param { c: 0 }',
            (3,),
            "c must be other than 0, got 0",
        ),
        ('type: "Clip"', (3,), "min is missing"),
        ('type: "Clip" clip_param { min: 0 }', (3,), "max is missing"),
        ('type: "Softmax" softmax_param { axis: 1 }', (3,), "axis 1 does not exist"),
        ('type: "PReLU"', (3,), r"axes of bottom blob must be >= 2, got shape \(3,\)"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, shape)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_relu6_has_a_ceiling(make_layer: LayerMaker, run: Runner, slope: float) -> None:
    layer = make_layer(f'type: "ReLU6" relu6_param {{ negative_slope: {slope} }}', (1, 5))
    x = np.array([[-20.0, -2.0, 5.5, 6.0, 20.0]])
    assert run(layer, x)[0].tolist() == [[-20 * slope, -2 * slope, 5.5, 6, 6]]
    assert gradient_at(layer.float(), -20, -2, 5.5, 6, 20) == [slope, slope, 1, 0, 0]
