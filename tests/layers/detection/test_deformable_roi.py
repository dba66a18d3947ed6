from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

RNG = np.random.default_rng(5)
K, PARTS, SAMPLES, SCALE, STD = 3, 2, 2, 0.25, 0.375
X = RNG.normal(size=(2, 4 * K * K, 6, 7))
ROIS = np.array(
    [
        [0, 1.3, 2, 21, 19.6],
        [1, 9, 4, 10, 5],
        [1, -9, 3, 40, 50],
        [0, 90, 90, 99, 99],  # outside
        [0, 9, 9, 3, 3],  # the wrong way round
    ]
)
OFFSETS = RNG.normal(size=(5, 4, PARTS, PARTS))  # two groups
FIELDS = (
    f"spatial_scale: {SCALE} output_dim: 4 group_size: {K} part_size: {PARTS}"
    f" sample_per_part: {SAMPLES} trans_std: {STD}"
)


def text(fields: str = FIELDS) -> str:
    return f'type: "DeformablePSROIPooling" deformable_psroi_pooling_param {{ {fields} }}'


def rounded(value: float) -> int:
    return floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def bilinear(plane: np.ndarray, row: float, column: float) -> float:
    h, w = plane.shape
    row, column = min(max(row, 0), h - 1), min(max(column, 0), w - 1)
    top, left = floor(row), floor(column)
    down, right = row - top, column - left
    return float(
        (1 - down) * (1 - right) * plane[top, left]
        + (1 - down) * right * plane[top, ceil(column)]
        + down * (1 - right) * plane[ceil(row), left]
        + down * right * plane[ceil(row), ceil(column)]
    )


def slow_pool(offsets: np.ndarray | None) -> np.ndarray:
    """The top, point by point."""
    y = np.zeros((len(ROIS), 4, K, K))
    (height, width) = X.shape[2:]
    for r, c, i, j in np.ndindex(*y.shape):
        x1, y1 = (rounded(v) * SCALE - 0.5 for v in ROIS[r, 1:3])
        x2, y2 = ((rounded(v) + 1) * SCALE - 0.5 for v in ROIS[r, 3:])
        wide, high = max(x2 - x1, 0.1), max(y2 - y1, 0.1)
        right = down = 0.0
        if offsets is not None:
            part = floor(i / K * PARTS), floor(j / K * PARTS)
            group = c // (4 // (offsets.shape[1] // 2))
            right, down = (offsets[(r, 2 * group + axis, *part)] * STD for axis in (0, 1))
        values = []
        for a in range(SAMPLES):
            for b in range(SAMPLES):
                row = y1 + (i + a / SAMPLES) * high / K + down * high
                column = x1 + (j + b / SAMPLES) * wide / K + right * wide
                if -0.5 <= row <= height - 0.5 and -0.5 <= column <= width - 0.5:
                    plane = X[int(ROIS[r, 0]), (c * K + i) * K + j]
                    values.append(bilinear(plane, row, column))
        y[r, c, i, j] = np.mean(values) if values else 0
    return y


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_moved_bins(make_layer: LayerMaker, run: Runner, groups: int) -> None:
    offsets = RNG.normal(size=(5, 2 * groups, PARTS, PARTS))
    layer = make_layer(text(), X.shape, ROIS.shape, offsets.shape)
    have = run(layer, X, ROIS, offsets)[0]
    np.testing.assert_allclose(have, slow_pool(offsets), atol=1e-12)
    assert not have[3].any()


@pytest.mark.parametrize("more", [[], [OFFSETS]])
def test_without_offsets(make_layer: LayerMaker, run: Runner, more: list[np.ndarray]) -> None:
    layer = make_layer(
        text(f"{FIELDS} no_trans: true"), X.shape, ROIS.shape, *(m.shape for m in more)
    )
    np.testing.assert_allclose(run(layer, X, ROIS, *more)[0], slow_pool(None), atol=1e-12)


def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    x, rois, offsets = X[:, :8, :5, :5], ROIS[:2], OFFSETS[:2, :2]
    fields = "spatial_scale: 0.23 output_dim: 2 group_size: 2 sample_per_part: 2 trans_std: 0.1"
    layer = make_layer(text(fields), x.shape, rois.shape, offsets.shape)
    check_gradient(layer, x, rois, offsets)


def test_no_regions(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(text(), X.shape, (0, 5), (0, 2, PARTS, PARTS))
    none = np.zeros((0, 2, PARTS, PARTS))
    assert run(layer, X, np.zeros((0, 5)), none)[0].shape == (0, 4, K, K)


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    shapes = (X.shape, ROIS.shape)
    with pytest.raises(NetError, match="needs a third bottom, the offsets, or no_trans"):
        make_layer(text(), *shapes)
    with pytest.raises(NetError, match="need 36 channels, got 35"):
        make_layer(text(), (2, 35, 6, 7), ROIS.shape, OFFSETS.shape)
    with pytest.raises(NetError, match=r"offsets must be \(5, '2 G', 2, 2\), got shape \(5, 4, 3"):
        make_layer(text(), *shapes, (5, 4, 3, 3))
    with pytest.raises(NetError, match="some groups of 4 output channels, got 6"):
        make_layer(text(), *shapes, (5, 6, 2, 2))
    fields = "spatial_scale: 1 output_dim: 4 group_size: 3"
    with pytest.raises(NetError, match="sample_per_part is missing"):
        make_layer(text(fields), *shapes, OFFSETS.shape)
    layer = make_layer(text(), *shapes, OFFSETS.shape)
    with pytest.raises(DataError, match="region 4 is of image 2"):
        run(layer, X, np.where(np.arange(5)[:, None] == 4, 2.0, ROIS), OFFSETS)
