from __future__ import annotations

from math import acos, cos, sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def test_cosine(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x = spread(3, 4)
    layer = make_layer('type: "Cosine"', x.shape)
    np.testing.assert_allclose(run(layer, x)[0], np.vectorize(cos)(x))
    check_gradient(layer, x)


def test_arc_cosine(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x = spread(3, 4) * 1.5
    layer = make_layer('type: "Arccos"', x.shape)
    np.testing.assert_allclose(run(layer, x)[0], np.vectorize(acos)(x))
    check_gradient(layer, x)


def test_the_gradient_of_an_arc_cosine_is_finite_at_one(make_layer: LayerMaker) -> None:
    x = torch.tensor([1.0, 0.995, 2.0], dtype=torch.float64, requires_grad=True)
    y = make_layer('type: "Arccos"', (3,))(x)
    y.sum().backward()
    assert y[2].isnan()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([-1 / sqrt(1 - 0.99**2)] * 3)
