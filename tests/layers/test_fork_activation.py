from __future__ import annotations

from math import acos, cos, exp, log, tanh
from typing import TYPE_CHECKING

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
        ("Cosine", cos),
        ("Insanity", lambda x: x if x > 0 else x / 7.5),  # (5 + 10) / 2 in testing
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


def test_arccos(make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck) -> None:
    x = np.linspace(-0.95, 0.95, 12).reshape(3, 4)
    layer = make_layer('type: "Arccos"', x.shape)
    np.testing.assert_allclose(run(layer, x)[0], np.vectorize(acos)(x), atol=1e-12)
    check_gradient(layer, x)
    assert np.isnan(run(layer, np.full((3, 4), 1.5))[0]).all()


def test_insanity_draws_a_slope_for_each_element(make_layer: LayerMaker) -> None:
    torch.manual_seed(3)
    layer = make_layer('type: "Insanity" insanity_param { lb: 2 ub: 4 }', (2000,), training=True)
    x = torch.full((2000,), -1.0).index_fill_(0, torch.arange(1000), 1.0)
    (top,) = [layer(x)]
    divisors = -1 / top[1000:]
    assert (top[:1000] == 1).all()
    assert divisors.min() >= 2
    assert divisors.max() < 4
    assert divisors.unique().numel() > 900
    assert abs(divisors.mean() - 3) < 0.1


@pytest.mark.parametrize("bounds", ["lb: 0 ub: 2", "lb: 3 ub: 2"])
def test_bounds(make_layer: LayerMaker, bounds: str) -> None:
    with pytest.raises(NetError, match="needs 0 < lb <= ub"):
        make_layer(f'type: "Insanity" insanity_param {{ {bounds} }}', (2,))


def test_two_names_of_one_type() -> None:
    assert REGISTRY["HSwish"] is REGISTRY["HardSwish"]
