from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

BATCH = 'type: "BatchContrastiveLoss" batch_contrastive_loss_param'
LABELS = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("SUM coeff: 2 coeff: -1", lambda a, b: 2 * a - b),
        ("SUM", lambda a, b: a + b),
        ("PROD", lambda a, b: a * b),
        ("MAX", max),
    ],
)
def test_pairwise(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    operation: str,
    function: object,
) -> None:
    values = spread(5, 4)
    a, b = values[:2], values[2:]
    text = f'type: "Pairwise" pairwise_param {{ operation: {operation} }}'
    layer = make_layer(text, a.shape, (3, 4, 1))
    have = run(layer, a, b[..., None])[0]
    assert have.shape == (2, 3, 4)
    for m, n, k in np.ndindex(have.shape):
        assert have[m, n, k] == pytest.approx(function(a[m, k], b[n, k]))  # type: ignore[operator]
    check_gradient(layer, a, b[..., None])


def slow_batch(x: np.ndarray, only: bool) -> tuple[float, np.ndarray, list[float]]:
    """The loss, its gradient and the mean distances, as the fork computes them."""
    n, gradient = len(x), np.zeros_like(x)
    terms: dict[bool, list[tuple[float, int, int]]] = {True: [], False: []}
    means: dict[bool, list[float]] = {True: [], False: []}
    for i in range(n):
        for j in range(i + 1, n):
            alike = bool(LABELS[i] == LABELS[j])
            means[alike].append(x[i, j])
            value = 3 * (x[i, j] - 0.3) if alike else 2 * (0.9 - x[i, j])
            if value > 0:
                terms[alike].append((value, i, j))
    if only:
        terms = {alike: [max(found)] if found else [] for alike, found in terms.items()}
    for alike, found in terms.items():
        for _, i, j in found:
            gradient[i, j] = (3 if alike else -2) / (2 if only else n)
    loss = sum(value for found in terms.values() for value, _, _ in found)
    return (
        loss / (1 if only else n * (n - 1) / 2),
        gradient,
        [float(np.mean(means[k])) for k in (True, False)],
    )


@pytest.mark.parametrize("only", [False, True])
def test_batch_contrastive(make_layer: LayerMaker, *, only: bool) -> None:
    x = np.random.default_rng(1).uniform(0, 1.5, (4, 4))
    layer = make_layer(
        f"{BATCH} {{ positive_margin: 0.3 negative_margin: 0.9 positive_weight: 3"
        f' negative_weight: 2 max_only: {str(only).lower()} }} top: "a" top: "b"',
        x.shape,
        (4,),
    )
    bottom = torch.tensor(x, requires_grad=True)
    loss, means = layer(bottom, torch.tensor(LABELS))
    want, gradient, distances = slow_batch(x, only)
    assert float(loss.detach()) == pytest.approx(want)
    assert means.tolist() == pytest.approx(distances)
    loss.backward()
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad, gradient, atol=1e-12)


def test_a_batch_of_one(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f'{BATCH} {{ }} top: "a" top: "b"', (1, 1), (1,))
    loss, means = run(layer, np.ones((1, 1)), np.ones(1))
    assert (loss.tolist(), means.tolist()) == (0, [0, 0])


def test_correlation_loss(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    a, b = spread(2, 3, 1)
    layer = make_layer('type: "CorrelationLoss"', a.shape, b.shape)
    want = sum(float(x * y) for x, y in zip(a[:, 0], b[:, 0], strict=True)) / 3
    assert run(layer, a, b)[0] == pytest.approx(want)
    check_gradient(layer, a, b)


def slow_lifted(x: np.ndarray, labels: list[int], margin: float) -> float:
    """Song et al.'s equation 4, pair by pair."""
    terms = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            others = [k for k in range(len(x)) if labels[k] != labels[i]]
            if labels[i] != labels[j] or not others:
                continue
            pushed = sum(
                np.exp(margin - np.linalg.norm(x[a] - x[k])) for a in (i, j) for k in others
            )
            terms.append(max(0, np.log(pushed) + np.linalg.norm(x[i] - x[j])) ** 2)
    return sum(terms) / (2 * len(terms)) if terms else 0


LIFTED = 'type: "LiftedStructSimilaritySoftmaxLoss" lifted_struct_sim_softmax_loss_param'


@pytest.mark.parametrize("margin", [1, 0.25, -3])
@pytest.mark.parametrize("labels", [[4, 1, 4, 4, 1], [0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [5] * 5])
def test_lifted_structure(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    margin: float,
    labels: list[int],
) -> None:
    x = np.random.default_rng(3).normal(size=(5, 3, 1, 1))
    layer = make_layer(f"{LIFTED} {{ margin: {margin} }}", x.shape, (5,))
    assert run(layer, x, labels)[0] == pytest.approx(slow_lifted(x[..., 0, 0], labels, margin))
    check_gradient(layer, x, labels)


def test_items_at_one_place_give_finite_gradients(make_layer: LayerMaker) -> None:
    layer = make_layer(f"{LIFTED} {{ }}", (4, 2), (4,))
    x = torch.tensor([[1.0, 2], [1, 2], [1, 2], [3, 4]], requires_grad=True)
    loss = layer(x, torch.tensor([0.0, 0, 1, 1]))
    assert isinstance(loss, torch.Tensor)
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_bad_input(make_layer: LayerMaker) -> None:
    kind = 'type: "Pairwise" pairwise_param'
    with pytest.raises(NetError, match="must have one length"):
        make_layer(f"{kind} {{ }}", (2, 3), (2, 4))
    with pytest.raises(NetError, match="got 1 for SUM"):
        make_layer(f"{kind} {{ coeff: 1 }}", (2, 3), (2, 3))
    with pytest.raises(NetError, match="got 2 for PROD"):
        make_layer(f"{kind} {{ operation: PROD coeff: 1 coeff: 1 }}", (2, 3), (2, 3))
    with pytest.raises(NetError, match="distances of N items"):
        make_layer(f"{BATCH} {{ }}", (2, 3), (2,))
    with pytest.raises(NetError, match="same first dimension"):
        make_layer(f"{LIFTED} {{ }}", (4, 3), (3,))
    with pytest.raises(NetError, match="same dimension"):
        make_layer('type: "CorrelationLoss"', (2, 1), (3, 1))
