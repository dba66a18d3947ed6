from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

FILLED = 'num_output: 4 center_filler { type: "gaussian" }'


@pytest.mark.parametrize("kind", ["L2", "L1"])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_center_loss(make_layer: LayerMaker, kind: str, weight: float) -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(6, 2, 3)), np.array([0, 2, 2, 0, 2, 3])
    layer = make_layer(
        f'type: "CenterLoss" center_loss_param {{ {FILLED} distance_type: "{kind}" }}',
        x.shape,
        labels.shape,
    ).double()
    centers = layer.blobs[0].detach().numpy().copy()
    bottom = torch.tensor(x, requires_grad=True)
    loss = layer(bottom, torch.tensor(labels))
    (loss * weight).backward()
    total, by_x, by_center = 0.0, np.zeros((6, 6)), np.zeros((4, 6))
    for m, k in np.ndindex(6, 6):
        apart = x.reshape(6, 6)[m, k] - centers[labels[m], k]
        total += apart**2 / 2 if kind == "L2" else abs(apart)
        slope = apart if kind == "L2" else np.sign(apart)
        by_x[m, k] = weight * slope / 6
        by_center[labels[m], k] -= slope / (1 + list(labels).count(labels[m]))
    assert float(loss.detach()) == pytest.approx(total / 6)
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.reshape(6, 6), by_x)
    grad = layer.weights[0].grad
    assert grad is not None
    np.testing.assert_allclose(grad, by_center)
    assert not grad[1].any()


def test_triplet_loss(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    a, p, n = (spread(5, 3) + k for k in (0, 0.3, 0.1))
    n = n[::-1].copy()
    layer = make_layer('type: "TripletLoss" triplet_loss_param { margin: 0.4 }', *[(5, 3)] * 3)
    terms = [0.4 + sum((a[i] - p[i]) ** 2) - sum((a[i] - n[i]) ** 2) for i in range(5)]
    assert min(terms) < 0 < max(terms)
    assert run(layer, a, p, n)[0] == pytest.approx(sum(max(0, t) for t in terms) / 10)


def test_gradient_of_triplets(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer('type: "TripletLoss"', *[(5, 3)] * 3)
    check_gradient(layer, spread(5, 3), spread(5, 3) + 0.3, spread(5, 3)[::-1].copy())


def test_bad_options(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match='distance_type must be L1 or L2, got "cosine"'):
        make_layer(
            f'type: "CenterLoss" center_loss_param {{ {FILLED} distance_type: "cosine" }}',
            (2, 3),
            (2,),
        )
    layer = make_layer(f'type: "CenterLoss" center_loss_param {{ {FILLED} }}', (2, 3), (2,))
    with pytest.raises(DataError, match="label 4 is outside of the 4 classes"):
        run(layer, np.ones((2, 3)), np.array([4, 0]))
    with pytest.raises(NetError, match=r"same first dimension: 2 items"):
        layer.top_shapes((2, 3), (3,))
    with pytest.raises(NetError, match="num_output is missing"):
        make_layer('type: "CenterLoss"', (2, 3), (2,))
    with pytest.raises(NetError, match="Inputs must have the same dimension"):
        make_layer('type: "TripletLoss"', (2, 3), (2, 3), (2, 4))
