from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
MARGIN = 0.5


def text_of(neg_num: int, hard: float, rand: float, field: str = "rank_param") -> str:
    return (
        f'type: "RankHardLoss" {field} {{ neg_num: {neg_num} pair_size: 3 hard_ratio: {hard}'
        f" rand_ratio: {rand} margin: {MARGIN} }}"
    )


def items() -> Array:
    x = np.random.default_rng(3).standard_normal((12, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cost(x: Array, i: int, j: int) -> tuple[float, float]:
    """Both terms of the pair that begins at item i, and the negative j."""
    a, b, n = x[i], x[i + 1], x[j]
    return max(0.0, MARGIN - a @ b + a @ n), max(0.0, MARGIN - a @ b + b @ n)


def candidates(x: Array, i: int) -> list[int]:
    """The negatives whose first term is above 0, the hardest first."""
    found = [j for j in range(12) if LABELS[j] != LABELS[i] and cost(x, i, j)[0] > 0]
    return sorted(found, key=lambda j: -(x[i] @ x[j]))


@pytest.mark.parametrize("field", ["rank_param", "rank_hard_loss_param"])
@pytest.mark.parametrize(("neg_num", "hard", "rand"), [(9, 0, 0), (2, 1, 0), (2, 0, 0)])
def test_without_chance(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    neg_num: int,
    hard: float,
    rand: float,
    field: str,
) -> None:
    """All candidates, or the hardest of more; no more than neg_num: all, whatever the ratios."""
    x, total = items(), 0.0
    for i in range(0, 12, 3):
        found = candidates(x, i)
        chosen = found if len(found) <= neg_num else found[: int(neg_num * hard)]
        total += sum(sum(cost(x, i, j)) for j in chosen)
    layer = make_layer(text_of(neg_num, hard, rand, field), x.shape, LABELS.shape)
    (loss,) = run(layer, x, LABELS)
    assert loss == pytest.approx(total / (2 * neg_num * 4), rel=1e-12)
    check_gradient(layer, x, LABELS)
    assert not layer.is_pure


def test_shares_are_counted_in_single_precision(make_layer: LayerMaker) -> None:
    """0.7 of 10 negatives are 7, as in C++."""
    layer: Any = make_layer(text_of(10, 0.7, 0), (12, 2), (12,))
    candidate = torch.ones(4, 12, dtype=torch.bool)
    assert layer._chosen(torch.arange(48.0).view(4, 12), candidate).sum(1).tolist() == [7] * 4


def test_chance_draws_among_the_hardest_and_the_rest(make_layer: LayerMaker) -> None:
    """Half of four from the four hardest; half from whatever is left, the other two included."""
    x = np.zeros((12, 2))
    x[:, 0] = np.linspace(0.1, 0.3, 12)
    layer: Any = make_layer(text_of(4, 0.5, 0.5), x.shape, LABELS.shape)
    items_, labels = torch.from_numpy(x), torch.from_numpy(LABELS)
    alike = items_[::3] @ items_.t()
    candidate = labels != labels[::3, None]
    seen = torch.zeros(4, 12)
    for seed in range(30):
        torch.manual_seed(seed)
        chosen = layer._chosen(alike, candidate)
        assert not (chosen & ~candidate).any()
        assert chosen.sum(1).tolist() == [4] * 4
        for i in range(4):
            hardest = candidates(x, 3 * i)[:4]
            assert chosen[i, hardest].sum() >= 2
        seen += chosen
    assert bool(((seen > 0) == candidate).all())  # each negative is drawn at times
    assert seen.max() < 30


@pytest.mark.parametrize(
    ("text", "shapes", "told"),
    [
        ('type: "RankHardLoss"', [(4, 2), (4,)], "neg_num is missing"),
        (text_of(2, 1, 0), [(4, 2), (4,)], "a multiple of pair_size 3, got 4"),
        (text_of(2, 1, 0), [(3, 2), (2,)], r"one label for each of 3 items, got shape \(2,\)"),
        (text_of(2, 1, 0).replace("pair_size: 3", "pair_size: 1"), [(3, 2), (3,)], ">= 2, got 1"),
    ],
)
def test_faults(
    make_layer: LayerMaker, text: str, shapes: list[tuple[int, ...]], told: str
) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(text, *shapes)
