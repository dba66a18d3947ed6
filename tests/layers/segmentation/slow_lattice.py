"""The permutohedral lattice point by point, as a measure."""

from __future__ import annotations

from math import ceil, floor, sqrt

import numpy as np


def simplex(point: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
    """The corners around a point, by their first d coordinates, with their shares."""
    d = len(point)
    scaled = [point[k] * sqrt(2 / 3) * (d + 1) / sqrt((k + 1) * (k + 2)) for k in range(d)]
    elevated = [sum(scaled[i:]) - i * (scaled[i - 1] if i else 0) for i in range(d + 1)]
    base = []
    for value in elevated:
        up, down = ceil(value / (d + 1)) * (d + 1), floor(value / (d + 1)) * (d + 1)
        base.append(up if up - value < value - down else down)
    order = sorted(range(d + 1), key=lambda i: elevated[i] - base[i], reverse=True)
    rank = {i: k for k, i in enumerate(order)}
    moved = round(sum(base) / (d + 1))
    for i in range(d + 1):
        rank[i] += moved
        if rank[i] < 0:
            rank[i] += d + 1
            base[i] += d + 1
        elif rank[i] > d:
            rank[i] -= d + 1
            base[i] -= d + 1
    height = {rank[i]: (elevated[i] - base[i]) / (d + 1) for i in range(d + 1)}
    shares = [1 + height[d] - height[0]] + [
        height[d - k] - height[d - k + 1] for k in range(1, d + 1)
    ]
    corners = []
    for k, share in enumerate(shares):
        corner = [base[i] + (k if rank[i] <= d - k else k - d - 1) for i in range(d + 1)]
        assert sum(corner) == 0
        corners.append((tuple(corner[:d]), share))
    return corners


def slow_filter(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The filtered values (M, K) of values (M, K) at points (M, d)."""
    d = points.shape[1]
    around = [simplex(point) for point in points]
    nodes: dict[tuple[int, ...], np.ndarray] = {}
    for corners, value in zip(around, values, strict=True):
        for corner, share in corners:
            nodes[corner] = nodes.get(corner, 0) + share * value
    for direction in range(d + 1):
        step = np.full(d, -1)
        if direction < d:
            step[direction] = d
        nodes = {
            corner: value
            + 0.5 * nodes.get(tuple(np.add(corner, step)), 0)
            + 0.5 * nodes.get(tuple(np.subtract(corner, step)), 0)
            for corner, value in nodes.items()
        }
    filtered = [sum(share * nodes[corner] for corner, share in corners) for corners in around]
    return np.array(filtered) / (1 + 2.0**-d)
