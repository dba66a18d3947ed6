from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

RNG = np.random.default_rng(5)
X = RNG.normal(size=(2, 3, 7, 9))
ROIS = np.array(
    [
        [0, 0, 0, 32, 24],
        [1, 5, 9, 27, 21],
        [1, -13, -6, 14, 50],  # partly outside
        [0, 12, 8, 12, 8],  # without extent
        [0, 20, 20, 8, 3],  # the wrong way round
        [1, 60, 60, 90, 90],  # outside
        [0, 4, 4, 9, 6],  # fewer cells than bins
    ]
)
KIND = 'type: "ROIWarping" roi_warping_param'
FIELDS = "pooled_h: 3 pooled_w: 4 spatial_scale: 0.25"
BINS = (3, 4)


def rounded(value: float) -> int:
    return floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def points(start: int, end: int, bins: int, k: int) -> list[float]:
    extent = max(0, end - start)
    steps = ceil(extent / bins)
    if not steps:
        return [start]
    return [start + (k * steps + j) * extent / (bins * steps) for j in range(steps + 1)]


def corners(at: float, size: int) -> list[tuple[int, float]]:
    """The cells around a place on an axis and their weights."""
    at = min(max(at, 0), size - 1)
    low = floor(at)
    return [(low, 1 - at + low), (min(low + 1, size - 1), at - low)]


def slow_warp(x: np.ndarray, roi: np.ndarray, grad: np.ndarray):  # type: ignore[no-untyped-def]
    """The top (C, h, w) of one region, and what a diff of it gives to the map (N, C, H, W) and to
    the region (5,), point by point."""
    top, to_x, to_roi = np.zeros(grad.shape), np.zeros(x.shape), np.zeros(5)
    image, (height, width) = int(roi[0]), x.shape[2:]
    x1, y1, x2, y2 = (rounded(v * 0.25) for v in roi[1:])
    for c, i, j in np.ndindex(*grad.shape):
        best = None
        for a in points(y1, y2, BINS[0], i):
            for b in points(x1, x2, BINS[1], j):
                if not (-0.5 <= a <= height - 0.5 and -0.5 <= b <= width - 0.5):
                    continue
                value = sum(
                    u * v * x[image, c, row, column]
                    for row, u in corners(a, height)
                    for column, v in corners(b, width)
                )
                if best is None or value > best[0]:
                    best = (value, min(max(a, 0), height - 1), min(max(b, 0), width - 1))
        if best is None:
            continue
        value, a, b = best
        top[c, i, j] = value
        for row, u in corners(a, height):
            for column, v in corners(b, width):
                to_x[image, c, row, column] += u * v * grad[c, i, j]
        row, column = floor(a), floor(b)
        if row + 1 > height - 1 or column + 1 > width - 1:
            continue
        cell = x[image, c, row : row + 2, column : column + 2]
        by_y = (cell[1] - cell[0]) @ [1 - b + column, b - column]
        by_x = (cell[:, 1] - cell[:, 0]) @ [1 - a + row, a - row]
        down = (a - y1) / max(1, y2 - y1 + 1) - 0.5
        across = (b - x1) / max(1, x2 - x1 + 1) - 0.5
        to_roi += grad[c, i, j] * np.array([0, by_x, by_y, across * by_x, down * by_y])
    return top, to_x, to_roi


def test_values_and_gradients(make_layer: LayerMaker) -> None:
    layer = make_layer(f"{KIND} {{ {FIELDS} }}", X.shape, ROIS.shape)
    x = torch.tensor(X, requires_grad=True)
    rois = torch.tensor(ROIS, dtype=torch.float64, requires_grad=True)
    top = layer(x, rois)
    assert isinstance(top, torch.Tensor)
    grad = RNG.normal(size=top.shape)
    to_x, to_rois = torch.autograd.grad(top, (x, rois), torch.from_numpy(grad))
    want_x = np.zeros(X.shape)
    for r, roi in enumerate(ROIS):
        want, to_map, to_roi = slow_warp(X, roi, grad[r])
        np.testing.assert_allclose(top[r].detach(), want, atol=1e-12)
        np.testing.assert_allclose(to_rois[r], to_roi, atol=1e-10)
        want_x += to_map
    np.testing.assert_allclose(to_x, want_x, atol=1e-10)
    assert top[5].eq(0).all()


def test_of_equal_values_the_first_point_counts(make_layer: LayerMaker) -> None:
    layer = make_layer(f"{KIND} {{ pooled_h: 1 pooled_w: 1 }}", (1, 1, 3, 3), (1, 5))
    x = torch.ones(1, 1, 3, 3, requires_grad=True)
    top = layer(x, torch.tensor([[0.0, 0, 0, 2, 2]]))
    assert isinstance(top, torch.Tensor)
    (grad,) = torch.autograd.grad(top.sum(), x)
    assert grad[0, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_huge_regions_and_none(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{KIND} {{ pooled_h: 2 pooled_w: 2 }}", X.shape, (2, 5))
    rois = np.array([[0, -3e38, -1e9, np.inf, 1e9], [1, np.nan, 0, 1e12, 8]])
    top = run(layer, X, rois)[0]
    assert np.isfinite(top).all()
    assert run(layer, X, np.zeros((0, 5)))[0].shape == (0, 3, 2, 2)


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match="pooled_h must be > 0, got 0"):
        make_layer(f"{KIND} {{ pooled_w: 2 }}", X.shape, ROIS.shape)
    with pytest.raises(NetError, match="regions are a blob R 5"):
        make_layer(f"{KIND} {{ {FIELDS} }}", X.shape, (3, 4))
    with pytest.raises(NetError, match="spatial_scale must be finite"):
        make_layer(f"{KIND} {{ pooled_h: 2 pooled_w: 2 spatial_scale: inf }}", X.shape, (3, 5))
    layer = make_layer(f"{KIND} {{ {FIELDS} }}", X.shape, (1, 5))
    with pytest.raises(DataError, match="region 0 is of image 2"):
        run(layer, X, np.array([[2, 0, 0, 5, 5]]))
