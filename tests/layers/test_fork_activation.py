from __future__ import annotations

from math import erf, exp, log, tanh
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def hard_swish(x: float) -> float:
    return x * min(max(x / 6 + 0.5, 0), 1)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("Mish", lambda x: x * tanh(log(1 + exp(x)))),
        ("HardSwish", hard_swish),
        ("HSwish", hard_swish),
    ],
)
def test_values_and_gradient(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    name: str,
    function: Callable[[float], float],
) -> None:
    x = spread(3, 5, 6)
    layer = make_layer(f'type: "{name}"', x.shape)
    np.testing.assert_allclose(run(layer, x)[0], np.vectorize(function)(x), atol=1e-12)
    check_gradient(layer, x)


def test_two_names_of_one_type() -> None:
    assert REGISTRY["HSwish"] is REGISTRY["HardSwish"]


def test_signed_sqrt(make_layer: LayerMaker) -> None:
    values = np.array([-4, -0.25, 0, 1e-12, 9])
    x = torch.tensor(values, requires_grad=True)
    y = make_layer('type: "SignedSqrt"', values.shape)(x)
    assert isinstance(y, torch.Tensor)
    roots = [-2, -0.5, 0, 1e-6, 3]
    np.testing.assert_allclose(y.detach(), roots)
    (grad,) = torch.autograd.grad(y, x, torch.full_like(x, 2))
    np.testing.assert_allclose(grad, [2 * 0.5 / (abs(root) + 0.03) for root in roots])


def test_selu(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(3, 5)
    for fields, scale, alpha in (("", 1.050700987, 1.67326324), ("lambda: 2 alpha: 3", 2, 3)):
        layer = make_layer(f'type: "SeLU" selu_param {{ {fields} }}', x.shape)
        wanted = scale * np.where(x > 0, x, alpha * (np.exp(x) - 1))
        np.testing.assert_allclose(run(layer, x)[0], wanted, rtol=1e-6)  # of floats in the schema
        check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "axis", "slope"),
    [("", 1, 0), ("negative_slope: 0.25", 1, 0.25), ("concat_axis: -1", 2, 0)],
)
def test_crelu(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    axis: int,
    slope: float,
) -> None:
    x = spread(2, 3, 4)
    layer = make_layer(f'type: "CReLU" crelu_param {{ {fields} }}', x.shape)
    halves = [np.where(v > 0, v, slope * v) for v in (x, -x)]
    np.testing.assert_allclose(run(layer, x)[0], np.concatenate(halves, axis), rtol=1e-12)
    check_gradient(layer, x)


def test_crelu_in_place(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"in.place"):
        make_layer('type: "CReLU" bottom: "x" top: "x"', (2, 3))


@pytest.mark.parametrize(
    ("kind", "field", "function"),
    [("ScaleTanH", "scale_tanh_param", tanh), ("SignDiffusion", "sign_diffusion_param", erf)],
)
def test_functions_that_sharpen(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    kind: str,
    field: str,
    function: Callable[[float], float],
) -> None:
    """The fork counts from 1 on when the net is made, so pass p has the count p + 1."""
    x = spread(2, 3)
    fields = f"{field} {{ init_scale: 0.5 step_size: 3 gamma: 2 power: 0.5 }}"
    layer: Any = make_layer(f'type: "{kind}" {fields}', x.shape)
    for count in range(2, 9):
        scale = 0.5 * (1 + 2 * (count - count % 3)) ** 0.5 if count >= 3 else 0.5
        wanted = np.vectorize(function)(scale * x)
        np.testing.assert_allclose(run(layer, x)[0], wanted, rtol=1e-12)
        assert layer.scale() == pytest.approx(scale)
    np.testing.assert_allclose(layer.again(torch.from_numpy(x)), wanted, rtol=1e-12)
    assert layer.passes == 7
    other: Any = make_layer(f'type: "{kind}" {fields}', x.shape)
    other.load_run_state(layer.run_state())
    assert other.scale() == layer.scale()
    steady = make_layer(f'type: "{kind}" {field} {{ init_scale: 0.5 }}', x.shape)
    check_gradient(steady, x)
