from __future__ import annotations

from math import exp, log, tanh
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

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
