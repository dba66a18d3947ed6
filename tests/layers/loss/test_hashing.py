from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.loss.hashing import from_ones
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner, Spread

TEXT = 'type: "HashingLoss" hashing_loss_param { bi_margin: 4 tradeoff: 0.25 }'


def loss_and_gradient(x: Array, labels: Array) -> tuple[float, Array]:
    """Pair by pair, as the fork's loops do it."""
    n, grad, total = len(x), np.zeros_like(x), 0.0
    for i in range(n):
        for j in range(i + 1, n):
            d = x[i] - x[j]
            several = labels.ndim > 1 and labels.shape[1] > 1
            similar = labels[i] @ labels[j] > 0 if several else int(labels[i]) == int(labels[j])
            sign = 1.0 if similar else -1.0 if d @ d < 4 else 0.0
            total += d @ d if similar else max(4 - d @ d, 0)
            grad[i] += sign * d / (n * (n - 1))
            grad[j] -= sign * d / (n * (n - 1))
    total /= n * (n - 1)
    rising = (x >= 1) | ((x <= 0) & (x >= -1))
    grad += 0.25 / n * np.where(rising, 1, -1)
    return total + 0.25 * np.abs(np.abs(x) - 1).sum() / n, grad


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1.5, 1, 2, 0]),  # 1.5 counts as 1
        np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]),
    ],
)
def test_values_and_gradient(
    make_layer: LayerMaker, run: Runner, spread: Spread, labels: Array
) -> None:
    x = spread(5, 4)
    layer = make_layer(TEXT, x.shape, labels.shape)
    wanted, gradient = loss_and_gradient(x, labels)
    (loss,) = run(layer, x, labels)
    assert loss == pytest.approx(wanted, rel=1e-12)  # double precision
    leaf = torch.from_numpy(x).requires_grad_()
    (grad,) = torch.autograd.grad(layer(leaf, torch.from_numpy(labels).double()), leaf)
    np.testing.assert_allclose(grad, gradient, rtol=1e-12, atol=1e-12)


def test_slopes_at_the_ends_of_the_pieces() -> None:
    x = torch.tensor([-2.0, -1, -0.5, 0, 0.5, 1, 2], requires_grad=True)
    y = from_ones(x)
    assert y.tolist() == [1, 0, 0.5, 1, 0.5, 0, 1]
    (grad,) = torch.autograd.grad(y, x, torch.ones(7))
    assert grad.tolist() == [-1, 1, 1, 1, -1, 1, 1]


def test_defaults(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "HashingLoss"', (2, 3), (2,))
    assert layer.bi_margin == 1
    assert layer.tradeoff == pytest.approx(0.01)


def test_one_item(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(TEXT, (1, 2), (1,))
    assert run(layer, np.array([[2.0, 1]]), np.array([3]))[0] == 0.25


def test_refusals(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="there are 3 codes and labels of shape"):
        make_layer(TEXT, (3, 2), (2,))
    with pytest.raises(NetError, match="needs a label for each code"):
        make_layer(TEXT, (3, 2), (3, 0))
