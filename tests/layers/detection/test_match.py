from __future__ import annotations

import numpy as np
import pytest
import torch

from moka.layers.detection.boxes import overlap
from moka.layers.detection.match import IGNORED, NOTHING, match_boxes, outside
from moka.types import Array


def slow_match(shared: Array, threshold: float, per_prediction: bool) -> list[int]:
    boxes, count = shared.shape
    match = [NOTHING] * boxes
    free = set(range(count))
    while free:
        value, p, g = max(
            ((shared[p, g], -p, -g) for p in range(boxes) for g in free if match[p] == NOTHING),
            default=(0, 0, 0),
        )
        if value <= 1e-6:
            break
        match[-p] = -g
        free.remove(-g)
    if per_prediction:
        for p in range(boxes):
            best = int(shared[p].argmax())
            if match[p] == NOTHING and shared[p, best] >= threshold and shared[p, best] > 1e-6:
                match[p] = best
    return match


def boxes(count: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (count, 2))], 1))


@pytest.mark.parametrize("per_prediction", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_matches(seed: int, per_prediction: bool) -> None:
    found, truth = boxes(30, seed), boxes(4, seed + 50)
    index, shared = match_boxes(found, truth, 0.3, per_prediction=per_prediction)
    each = overlap(found, truth).numpy()
    assert index.tolist() == slow_match(each, 0.3, per_prediction)
    rows = np.flatnonzero(index >= 0)
    np.testing.assert_allclose(shared[rows], each[rows, index[rows]])


def test_a_true_box_gets_the_best_box_however_small_the_overlap_is() -> None:
    found = torch.tensor([[0, 0, 0.5, 0.5], [0.9, 0.9, 1, 1]])
    index, shared = match_boxes(found, torch.tensor([[0.45, 0.45, 0.8, 0.8]]), 0.5)
    assert index.tolist() == [0, NOTHING]
    assert 0 < shared[0] < 0.1


def test_ignored_boxes_and_no_truth() -> None:
    found = boxes(4, 1)
    index, _ = match_boxes(found, found[:2], 0.9, ignored=torch.tensor([True, False, False, False]))
    assert index[0] == IGNORED
    assert index[1] == 1
    index, shared = match_boxes(found, found[:0], 0.5)
    assert index.tolist() == [NOTHING] * 4
    assert not shared.any()


def test_outside() -> None:
    given = torch.tensor([[0, 0, 1, 1], [-0.1, 0, 1, 1], [0, 0, 1, 1.01]])
    assert outside(given).tolist() == [False, True, True]


def test_boxes_near_hard_ones_are_ignored() -> None:
    """NVCaffe's loop over all pairs, in which a hard true box never gets what it takes."""
    for seed in range(8):
        near, truth = boxes(30, seed), boxes(5, seed + 50)
        hard = torch.tensor([False, True, False, True, False])
        shared = overlap(near, truth)
        match = [-1] * 30
        left = set(range(5))
        while True:
            pairs = [
                (-float(shared[p, g]), p, g)
                for p in range(30)
                for g in left
                if match[p] == -1 and shared[p, g] > 1e-6
            ]
            if not pairs:
                break
            _, p, g = min(pairs)
            match[p] = -2 if hard[g] else g
            left -= set() if hard[g] else {g}
        for p in range(30):
            good = [g for g in range(5) if shared[p, g] >= 0.3]
            if match[p] == -1 and good:
                match[p] = max(good, key=lambda g: float(shared[p, g]))
        assert -2 in match
        assert match_boxes(near, truth, 0.3, hard=hard)[0].tolist() == match
