"""Detections of R-CNN's regions, beside a slow loop."""

from __future__ import annotations

import numpy as np
import pytest

from moka.predict.regions import LEAST_SCORE, MOST, detections_of_regions
from moka.types import Floats

HEIGHT, WIDTH, CLASSES = 60, 90, 4


def slow(scores: Floats, deltas: Floats, regions: Floats) -> list[list[float]]:
    """As py-faster-rcnn tests: regression, cut to the image, suppression class by class."""
    found: list[list[float]] = []
    for c in range(1, CLASSES):
        boxes = []
        for r, (_, x1, y1, x2, y2) in enumerate(regions):
            w, h = x2 - x1 + 1, y2 - y1 + 1
            at = 4 * c if deltas.shape[1] == 4 * CLASSES else 4
            dx, dy, dw, dh = deltas[r, at : at + 4]
            cx, cy = x1 + w / 2 + dx * w, y1 + h / 2 + dy * h
            nw, nh = np.exp(dw) * w, np.exp(dh) * h
            box = [cx - nw / 2, cy - nh / 2, cx + nw / 2, cy + nh / 2]
            limits = [WIDTH, HEIGHT, WIDTH, HEIGHT]
            boxes.append([min(max(v, 0), m - 1) for v, m in zip(box, limits, strict=True)])
        order = [r for r in np.argsort(-scores[:, c], kind="stable") if scores[r, c] >= LEAST_SCORE]
        kept: list[int] = []
        for r in order:
            if all(overlap(boxes[r], boxes[k]) <= 0.3 for k in kept):
                kept.append(r)
        found += [[0, c, scores[r, c], *boxes[r]] for r in kept]
    return sorted(found, key=lambda row: -row[2])[:MOST]


def overlap(a: list[float], b: list[float]) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(w, 0) * max(h, 0)
    areas = [(x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("columns", [4 * CLASSES, 8])
@pytest.mark.parametrize("ends", [(), (1, 1)])
def test_as_a_slow_loop(columns: int, ends: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    scores = rng.dirichlet(np.ones(CLASSES) / 2, 60).astype(np.float32)
    deltas = rng.normal(0, 0.2, (60, columns)).astype(np.float32)
    at = rng.uniform(0, 40, (60, 2))
    regions = np.hstack([np.zeros((60, 1)), at, at + rng.uniform(5, 40, (60, 2))])
    regions = regions.astype(np.float32)
    found = detections_of_regions(
        scores.reshape(60, CLASSES, *ends), deltas.reshape(60, columns, *ends), regions,
        (HEIGHT, WIDTH),
    )  # fmt: skip
    expected = slow(scores, deltas, regions)
    assert len(found) == len(expected) > 10
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_nothing() -> None:
    scores = np.array([[0.99, 0.01]], np.float32)
    found = detections_of_regions(scores, np.zeros((1, 8), np.float32),
                                  np.zeros((1, 5), np.float32), (4, 4))  # fmt: skip
    assert found.shape == (0, 7)
