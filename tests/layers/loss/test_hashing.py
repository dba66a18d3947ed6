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


def pairs_of(
    x: Array, y: Array, labels: Array, others: Array, options: dict[str, float]
) -> tuple[float, Array, Array]:
    """Pair by pair, as the fork's kernels do it: the mean and the gradients of x and y."""
    total, count, slopes = 0.0, 0.0, np.zeros((len(x), len(y)))
    for i, j in np.ndindex(*slopes.shape):
        alike = labels[i] @ others[j]
        if alike < 0 or alike >= labels.shape[1]:
            continue
        similar, p = float(alike > 0), options["sigmoid_param"] * (x[i] @ y[j])
        exact = np.log(1 + np.exp(p)) - similar * p
        cost = p * (1 - similar) if 0 <= options["l_threshold"] <= p else exact
        weight = options["class_num"] if similar else 1
        total, count = total + float(weight * cost), count + weight
        slopes[i, j] = 2 * (1 / (1 + np.exp(-p)) - similar) * weight
        if options["continous_similarity"]:
            own = [v @ v or 1 for v in (labels[i], others[j])]
            slopes[i, j] *= 4 * (alike**2 / (own[0] * own[1]) or 0.25)
    slopes *= options["l_lambda"] / (count or 1)
    value = total / (count or 1) if options["l_lambda"] > 0 else 0
    return value, slopes @ y, slopes.T @ x


def text_of_options(options: dict[str, float]) -> str:
    words = " ".join(f"{k}: {str(v).lower()}" for k, v in options.items())
    return f'type: "PairwiseLoss" pairwise_param {{ {words} }}'


NO_OPTIONS = {
    "l_threshold": -1.0,
    "l_lambda": 1.0,
    "class_num": 1.0,
    "sigmoid_param": 1.0,
    "continous_similarity": False,
}
LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"l_threshold": 0.5, "class_num": 3.0, "sigmoid_param": 0.25, "l_lambda": 2.0},
        {"continous_similarity": True, "l_lambda": 0.0},
        {"continous_similarity": True},
    ],
)
def test_pairs_of_two_sets(
    make_layer: LayerMaker, run: Runner, spread: Spread, more: dict[str, float]
) -> None:
    options = NO_OPTIONS | more
    x, y, others = spread(5, 4), spread(5, 4)[::-1].copy(), np.roll(LABELS, 1, 0)
    layer = make_layer(text_of_options(options), *(v.shape for v in (x, LABELS, y, others)))
    value, *wanted = pairs_of(x, y, LABELS, others, options)
    (loss,) = run(layer, x, LABELS, y, others)
    assert loss == pytest.approx(value, rel=1e-12)
    leaves = [torch.from_numpy(v).requires_grad_() for v in (x, y)]
    labels = [torch.from_numpy(v).double() for v in (LABELS, others)]
    grads = torch.autograd.grad(layer(leaves[0], labels[0], leaves[1], labels[1]), leaves)
    for found, gradient in zip(grads, wanted, strict=True):
        gradient.ravel()[:5] *= options["sigmoid_param"]  # the first N numbers only, as in the fork
        np.testing.assert_allclose(found, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("q_gamma", [0, 0.5])
@pytest.mark.parametrize("q_threshold", [-1, 0.25])
def test_pairs_of_one_set(
    make_layer: LayerMaker, run: Runner, spread: Spread, q_threshold: float, q_gamma: float
) -> None:
    options = NO_OPTIONS | {"q_threshold": q_threshold, "q_gamma": q_gamma}
    x = spread(5, 4)
    layer = make_layer(text_of_options(options), x.shape, LABELS.shape)
    value, gradient, _ = pairs_of(x, x, LABELS, LABELS, options)
    apart = np.abs(x) - 1
    cost = np.log(np.cosh(apart))
    if q_threshold > 0:
        cost = np.where(apart > q_threshold, np.abs(apart - np.log(2)), cost)
    if q_gamma:
        value += cost.mean()
        gradient += q_gamma / 5 * np.tanh(apart) * np.where(x >= 0, 1, -1)
    (loss,) = run(layer, x, LABELS)
    assert loss == pytest.approx(value, rel=1e-12)
    leaf = torch.from_numpy(x).requires_grad_()
    (grad,) = torch.autograd.grad(layer(leaf, torch.from_numpy(LABELS).double()), leaf)
    np.testing.assert_allclose(grad, gradient, rtol=1e-10, atol=1e-12)


def test_pairs_that_do_not_count(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "PairwiseLoss" pairwise_param { q_gamma: 0 }', (2, 3), (2, 1))
    x = torch.rand(2, 3, requires_grad=True)
    loss = layer(x, torch.ones(2, 1))
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ([(2, 3), (2, 1), (2, 3)], "these of two sets of items: 2 or 4 bottoms"),
        ([(2, 3), (3, 1)], r"2 codes and labels of shape \(3, 1\)"),
        ([(2, 3), (2, 1), (2, 3), (1, 1)], r"2 codes and labels of shape \(1, 1\)"),
        ([(2, 3), (2, 1), (2, 4), (2, 1)], r"one size, got codes \(2, 3\) and \(2, 4\)"),
        ([(2, 3), (2, 1), (2, 3), (2, 2)], r"labels \(2, 1\) and \(2, 2\)"),
    ],
)
def test_pairs_refuse(make_layer: LayerMaker, shapes: list[tuple[int, ...]], told: str) -> None:
    with pytest.raises(NetError, match=told):
        make_layer('type: "PairwiseLoss"', *shapes)
