from __future__ import annotations

import numpy as np
import pytest
import torch

from moka.layers.detection.anchors import Choice, base_anchors, grid_anchors, propose
from moka.types import Array

# The table at the head of py-faster-rcnn's generate_anchors, one pixel lower.
KNOWN = np.array(
    [
        [-83, -39, 100, 56],
        [-175, -87, 192, 104],
        [-359, -183, 376, 200],
        [-55, -55, 72, 72],
        [-119, -119, 136, 136],
        [-247, -247, 264, 264],
        [-35, -79, 52, 96],
        [-79, -167, 96, 184],
        [-167, -343, 184, 360.0],
    ]
)


def test_the_nine_anchors_of_faster_rcnn() -> None:
    np.testing.assert_array_equal(base_anchors(), KNOWN - 1)


def test_other_ratios_and_scales() -> None:
    np.testing.assert_array_equal(base_anchors(10, [1], [1, 2]), [[0, 0, 9, 9], [-5, -5, 14, 14]])


def test_halves_of_sides() -> None:
    """A square of 5 pixels becomes 2.5 pixels wide, then 8 or 10 or 12 high."""
    for half_up, width, height in ((False, 2, 8), (True, 3, 12)):
        (box,) = base_anchors(5, [4], [1], half_up).tolist()
        assert [box[2] - box[0] + 1, box[3] - box[1] + 1] == [width, height]


def test_anchors_of_a_map() -> None:
    grid = grid_anchors(torch.tensor([[0.0, 1, 2, 3], [5, 6, 7, 8]]), 2, 3, 10)
    assert grid.shape == (2, 3, 2, 4)
    assert grid[1, 2, 0].tolist() == [20, 11, 22, 13]
    assert grid[0, 1, 1].tolist() == [15, 6, 17, 8]


def overlap(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(high - low + 1, 0))
    return float(shared / (np.prod(a[2:] - a[:2] + 1) + np.prod(b[2:] - b[:2] + 1) - shared))


def slow_proposals(
    scores: Array, deltas: Array, anchors: Array, info: list[float], choice: Choice
) -> list[list[float]]:
    """One proposal after another, as the paper describes it."""
    height, width, scale = info
    found = []
    a, rows, columns = scores.shape
    for i, j, k in np.ndindex(rows, columns, a):
        x1, y1, x2, y2 = anchors[i, j, k]
        dx, dy, dw, dh = deltas[4 * k : 4 * k + 4, i, j]
        w, h = x2 - x1 + 1, y2 - y1 + 1
        cx, cy = x1 + w / 2 + dx * w, y1 + h / 2 + dy * h
        w, h = np.exp(dw) * w, np.exp(dh) * h
        box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        if choice.clip_before:
            box = np.clip(box, 0, np.array([width, height, width, height]) - 1)
        large = (box[2:] - box[:2] + 1 >= choice.min_size * scale).all()
        if large or choice.keep_small:
            found.append((float(scores[k, i, j]) if large else 0, box))
    found.sort(key=lambda pair: -pair[0])
    kept: list[tuple[float, Array]] = []
    for score, box in found[: choice.before or None]:
        if all(overlap(box, other) <= choice.threshold for _, other in kept):
            kept.append((score, box))
    kept = kept[: choice.after or None]
    if choice.clip_after:
        limit = np.array([width, height, width, height]) - 1
        kept = [(score, np.clip(box, 0, limit)) for score, box in kept]
    return [[score, *box] for score, box in kept]


@pytest.mark.parametrize(
    "choice",
    [
        Choice(8, 40, 10, 0.5),
        Choice(0, 1000, 1000, 0.7),
        Choice(40, 60, 30, 0.3),
        Choice(40, 60, 30, 0.3, keep_small=True),
        Choice(40, 0, 0, 0.3, keep_small=True),
        Choice(8, 40, 10, 0.5, clip_before=False),
        Choice(8, 40, 10, 0.5, clip_before=False, clip_after=True),
    ],
)
def test_proposals(choice: Choice) -> None:
    rng = np.random.default_rng(0)
    base = base_anchors(16, [0.5, 1], [1, 3])
    anchors = grid_anchors(base, 4, 5, 16)
    scores = rng.uniform(size=(4, 4, 5))
    deltas = rng.normal(0, 0.3, (16, 4, 5))
    info = [60.0, 75.0, 1.25]
    boxes, best = propose(torch.from_numpy(scores), torch.from_numpy(deltas), anchors, info, choice)
    want = slow_proposals(scores, deltas, anchors.numpy(), info, choice)
    assert want
    have = torch.cat([best[:, None], boxes], 1)
    np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-9)


def test_nan_is_no_proposal() -> None:
    anchors = grid_anchors(base_anchors(16, [1], [1]), 1, 3, 16)
    scores = torch.tensor([[[0.5, float("nan"), 0.7]]])
    deltas = torch.zeros(4, 1, 3)
    deltas[0, 0, 2] = float("nan")
    for keep_small in (False, True):
        choice = Choice(keep_small=keep_small)
        boxes, best = propose(scores, deltas, anchors.float(), [32, 64, 1], choice)
        assert best.tolist() == [0.5]
        assert not boxes.isnan().any()
