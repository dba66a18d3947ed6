from __future__ import annotations

from math import exp, sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

RNG = np.random.default_rng(6)
X, EDGES = RNG.normal(size=(2, 3, 4, 5)), RNG.uniform(0, 2, (2, 1, 4, 5))
SIZES = np.array([[4.0, 5.0], [3.0, 4.0]])
SHAPES = (X.shape, EDGES.shape, SIZES.shape)
FIELDS = "domain_transform_param { num_iter: 2 spatial_sigma: 3 range_sigma: 1.5"


def slow(least: float) -> np.ndarray:
    y = X.copy()
    for n, (h, w) in enumerate([(4, 5), (3, 4)]):
        for k in (1, 2):
            sigma = 3 * sqrt(3) * 2 ** (2 - k) / sqrt(4**2 - 1)
            share = np.array([
                [max(exp(-sqrt(2) / sigma * (1 + EDGES[n, 0, i, j] * 3 / 1.5)), least)
                 for j in range(w)] for i in range(h)
            ])  # fmt: skip
            for c in range(3):
                m = y[n, c]
                for i in range(h):
                    for j in range(1, w):
                        m[i, j] += share[i, j] * (m[i, j - 1] - m[i, j])
                    for j in reversed(range(w - 1)):
                        m[i, j] += share[i, j + 1] * (m[i, j + 1] - m[i, j])
                for j in range(w):
                    for i in range(1, h):
                        m[i, j] += share[i, j] * (m[i - 1, j] - m[i, j])
                    for i in reversed(range(h - 1)):
                        m[i, j] += share[i + 1, j] * (m[i + 1, j] - m[i, j])
    return y


@pytest.mark.parametrize("least", [0.0, 0.25])
def test_values(make_layer: LayerMaker, run: Runner, least: float) -> None:
    text = f"{FIELDS} min_weight: {least} }}"
    layer = make_layer(f'type: "DomainTransform" {text}', *SHAPES)
    np.testing.assert_allclose(run(layer, X, EDGES, SIZES)[0], slow(least))
    only = make_layer(f'type: "DomainTransformForwardOnly" {text}', *SHAPES)
    np.testing.assert_allclose(run(only, X, EDGES, SIZES)[0], slow(0))


def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    check_gradient(make_layer(f'type: "DomainTransform" {FIELDS} }}', *SHAPES), X, EDGES, SIZES)


def test_a_floor_does_not_stop_the_gradient(make_layer: LayerMaker) -> None:
    """All shares are the floor, 0.3; the derivative of each by its exponent is 0.3 too."""
    layer = make_layer(
        'type: "DomainTransform" domain_transform_param { num_iter: 1 spatial_sigma: 1'
        " range_sigma: 1 min_weight: 0.3 }",
        (1, 1, 1, 2),
        (1, 1, 1, 2),
        (1, 2),
    )
    x = torch.tensor([[[[1.0, 3.0]]]])
    edges = torch.full((1, 1, 1, 2), 9.0, requires_grad=True)
    layer(x, edges, torch.tensor([[1, 2]]))[0, 0, 0, 1].backward()
    assert edges.grad is not None
    want = 0.3 * -sqrt(2) * (1 - 3)  # y[1] = 3 + share (1 - 3), and sigma is 1
    assert edges.grad[0, 0, 0].tolist() == pytest.approx([0, want])


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match=r"edges \(N, 1, H, W\)"):
        make_layer('type: "DomainTransform"', X.shape, (2, 2, 4, 5), (2, 2))
    layer = make_layer('type: "DomainTransform"', *SHAPES)
    with pytest.raises(DataError, match="image 0 is 0 x 5"):
        run(layer, X, EDGES, np.array([[0, 5], [1, 1]]))
