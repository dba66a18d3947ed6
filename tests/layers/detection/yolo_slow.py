"""YOLO's arithmetic one number at a time, for the tests."""

from __future__ import annotations

from math import exp
from typing import Any

from moka.types import Array

Box = tuple[float, float, float, float]  # center x, center y, width, height


def sigmoid(v: float) -> float:
    return 1 / (1 + exp(-v))


def softmax(values: Array) -> list[float]:
    powers = [exp(v) for v in values]
    return [p / sum(powers) for p in powers]


def overlap(a: Box, b: Box) -> float:
    w = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    h = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    if w < 0 or h < 0:
        return 0.0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def box_at(values: Array, row: int, column: int, anchor: Any, cells: Any) -> Box:
    """The box that x, y, w, h describe; the anchor is a fraction of the image."""
    h, w = cells
    return (
        (column + sigmoid(values[0])) / w,
        (row + sigmoid(values[1])) / h,
        exp(values[2]) * anchor[0],
        exp(values[3]) * anchor[1],
    )


def suppressed(found: list[tuple[float, int, Box]], threshold: float) -> list[Any]:
    """Those of (score, label, box) that stay, the best first."""
    kept: list[Any] = []
    for candidate in sorted(found, key=lambda f: -f[0]):
        if all(overlap(candidate[2], other[2]) < threshold for other in kept):
            kept.append(candidate)
    return kept


def corners(box: Box) -> list[float]:
    x, y, w, h = box
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
