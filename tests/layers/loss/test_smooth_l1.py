from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

    from moka.types import Array

X = (2, 3, 2, 2)


def slow_smooth_l1(d: float, sigma: float = 1) -> float:
    s = sigma**2
    return s * d * d / 2 if abs(d) < 1 / s else abs(d) - 1 / (2 * s)


def values(count: int) -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.uniform(-1.2, 1.2, X) for _ in range(count)]


@pytest.mark.parametrize("sigma", [1, 3])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_value(make_layer: LayerMaker, run: Runner, sigma: int, count: int) -> None:
    bottoms = values(count)
    text = f'type: "SmoothL1Loss" smooth_l1_loss_param {{ sigma: {sigma} }} top: "l" top: "each"'
    loss, each = run(make_layer(text, *[X] * len(bottoms)), *bottoms)
    want = np.zeros(X)
    for place in np.ndindex(X):
        a, b, *weights = (float(bottom[place]) for bottom in bottoms)
        inside, outside = (*weights, 1.0, 1.0)[:2]
        want[place] = outside * slow_smooth_l1(inside * (a - b), sigma)
    np.testing.assert_allclose(loss, want.sum() / 2, rtol=1e-12)
    np.testing.assert_allclose(each, want.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck, count: int) -> None:
    text = 'type: "SmoothL1Loss" smooth_l1_loss_param { sigma: 2 }'
    check_gradient(make_layer(text, *[X] * count), *values(count))


def test_faults(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="same dimension"):
        make_layer('type: "SmoothL1Loss"', X, (2, 3))


@pytest.mark.parametrize(
    ("fields", "divisor"),
    [
        ("", 2 * 2 * 2),
        ("normalization: FULL", 8),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 0.25", 0.25),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_form_of_r_fcn(
    make_layer: LayerMaker, run: Runner, fields: str, divisor: float, weighted: bool
) -> None:
    bottoms = values(3 if weighted else 2)
    text = f'type: "SmoothL1LossOHEM" loss_param {{ {fields} }} top: "l" top: "each"'
    loss, each = run(make_layer(text, *[X] * len(bottoms)), *bottoms)
    d = bottoms[0] - bottoms[1]
    d = d * bottoms[2] if weighted else d
    want = np.vectorize(slow_smooth_l1)(d)
    np.testing.assert_allclose(loss, want.sum() / divisor, rtol=1e-12)
    np.testing.assert_allclose(each, want.sum(1, keepdims=True), rtol=1e-12)


def test_gradient_of_form_of_r_fcn(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    check_gradient(make_layer('type: "SmoothL1LossOHEM"', X, X, X), *values(3))
