from __future__ import annotations

import math
from collections.abc import Callable
from math import ceil, floor

import pytest
import torch
from torch import Tensor

from moka.layers.detection import regions

H, W = 9, 11
ROIS = torch.tensor(
    [
        [0, 3, 5, 60, 70],
        [1, 0, 0, 87, 71],
        [0, 30, 20, 31, 21],
        [1, 50, 40, 20, 10],  # corners have changed places
        [0, -40, -9, 20, 300],  # reaches out of the map
        [1, 200, 200, 300, 300],  # lies outside
        [0, 4, 12, 20, 28],  # corners at one half after scaling
    ],
    dtype=torch.float64,
)


def features(channels: int = 3, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, H, W, generator=rng, dtype=torch.float64)


def half_away(x: float) -> int:
    return floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def slow_max_pool(
    x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: float, pad: float
) -> Tensor:
    top = torch.zeros(len(rois), x.shape[1], *pooled, dtype=x.dtype)
    for r, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        px, py = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
        left, right = half_away((x1 - px) * scale), half_away((x2 + px) * scale)
        up, down = half_away((y1 - py) * scale), half_away((y2 + py) * scale)
        h, w = max(down - up + 1, 1), max(right - left + 1, 1)
        for i in range(pooled[0]):
            for j in range(pooled[1]):
                rows = [floor(i * (h / pooled[0])) + up, ceil((i + 1) * (h / pooled[0])) + up]
                columns = [
                    floor(j * (w / pooled[1])) + left,
                    ceil((j + 1) * (w / pooled[1])) + left,
                ]
                a, b = (min(max(v, 0), H) for v in rows)
                c, d = (min(max(v, 0), W) for v in columns)
                if b > a and d > c:
                    top[r, :, i, j] = x[int(image), :, a:b, c:d].amax((1, 2))
    return top


@pytest.mark.parametrize("pooled", [(3, 3), (2, 4), (7, 7), (1, 1)])
@pytest.mark.parametrize("pad", [0.0, 0.25])
@pytest.mark.parametrize("chunk", [1, 512])
def test_max_pool(
    monkeypatch: pytest.MonkeyPatch, pooled: tuple[int, int], pad: float, chunk: int
) -> None:
    monkeypatch.setattr(regions, "BINS", 16)
    monkeypatch.setattr(regions, "CHANNELS", chunk)
    x = features()
    want = slow_max_pool(x, ROIS, pooled, 1 / 8, pad)
    have = regions.max_pool(x, ROIS, pooled, (1 / 8, 1 / 8), pad)
    assert torch.equal(have, want)
    for copy in (x.clone(), x.float(), x.to(memory_format=torch.channels_last)):
        learning = copy.requires_grad_()
        top = regions.max_pool(learning, ROIS.to(copy), pooled, (1 / 8, 1 / 8), pad)
        torch.testing.assert_close(top, want.to(copy))


def test_scales_of_both_axes() -> None:
    x, wide = features(), ROIS.clone()
    wide[:, [1, 3]] *= 2
    have = regions.max_pool(x, wide, (2, 2), (1 / 8, 1 / 16))
    assert torch.equal(have, regions.max_pool(x, ROIS, (2, 2), (1 / 8, 1 / 8)))


def test_gradient_of_max_pool() -> None:
    x = features().requires_grad_()

    def pool(x: Tensor) -> Tensor:
        return regions.max_pool(x, ROIS, (2, 3), (1 / 8, 1 / 8))

    assert torch.autograd.gradcheck(pool, (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_of_equal_values_gets_the_gradient(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 3, 4, dtype=dtype)
    x[0, 0, 1, 3] = x[0, 0, 2, 0] = 5  # the first in row-major order is (1, 3)
    x[0, 0, 0, 0] = -0.0
    x.requires_grad_()
    roi = torch.tensor([[0, 0, 0, 3, 2]], dtype=dtype)
    torch.autograd.backward(regions.max_pool(x, roi, (1, 1), (1, 1)).sum())
    assert x.grad is not None
    assert x.grad.nonzero().tolist() == [[0, 0, 1, 3]]
    zeros = torch.zeros(1, 1, 3, 4, dtype=dtype)
    zeros[0, 0, 0, 0] = -0.0
    zeros.requires_grad_()
    torch.autograd.backward(regions.max_pool(zeros, roi, (1, 1), (1, 1)).sum())
    assert zeros.grad is not None
    assert zeros.grad.nonzero().tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_nan_is_the_largest_value_of_its_bins_only(dtype: torch.dtype, sign: int) -> None:
    x, rois = features().to(dtype), ROIS.to(dtype)
    want = regions.max_pool(x, rois, (3, 3), (1 / 8, 1 / 8))
    x[0, 0, 1, 2] = math.copysign(math.nan, sign)
    x[0, 1, 1, 2] = math.inf
    one = x.new_zeros(x.shape)
    one[0, :, 1, 2] = 1
    touched = regions.max_pool(one, rois, (3, 3), (1 / 8, 1 / 8)) == 1
    for features_ in (x, x.clone().requires_grad_()):
        have = regions.max_pool(features_, rois, (3, 3), (1 / 8, 1 / 8))
        assert torch.equal(
            have.isnan(), touched & torch.tensor([True, False, False])[:, None, None]
        )
        assert torch.equal(
            have.isinf(), touched & torch.tensor([False, True, False])[:, None, None]
        )
        assert torch.equal(have[~touched], want[~touched])


def slow_ps_pool(x: Tensor, rois: Tensor, dim: int, group: int, scale: float) -> Tensor:
    top = torch.zeros(len(rois), dim, group, group, dtype=x.dtype)
    for r, (image, *corner) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (half_away(v) for v in corner)
        left, up = x1 * scale, y1 * scale
        w = max((x2 + 1) * scale - left, 0.1) / group
        h = max((y2 + 1) * scale - up, 0.1) / group
        for c in range(dim):
            for i in range(group):
                for j in range(group):
                    a, b = floor(i * h + up), ceil((i + 1) * h + up)
                    d, e = floor(j * w + left), ceil((j + 1) * w + left)
                    a, b = (min(max(v, 0), H) for v in (a, b))
                    d, e = (min(max(v, 0), W) for v in (d, e))
                    if b > a and e > d:
                        plane = x[int(image), (c * group + i) * group + j]
                        top[r, c, i, j] = plane[a:b, d:e].mean()
    return top


@pytest.mark.parametrize(("dim", "group"), [(2, 3), (5, 1), (1, 2)])
@pytest.mark.parametrize("most", [1, 700, 1 << 20])
def test_position_sensitive_pool(
    monkeypatch: pytest.MonkeyPatch, dim: int, group: int, most: int
) -> None:
    monkeypatch.setattr(regions, "CELLS", most)
    x = features(dim * group * group)
    want = slow_ps_pool(x, ROIS, dim, group, 1 / 8)
    for copy in (x, x.float(), x.to(memory_format=torch.channels_last)):
        have = regions.position_sensitive_pool(copy, ROIS.to(copy), dim, group, (1 / 8, 1 / 8))
        torch.testing.assert_close(have, want.to(copy))


def test_values_that_are_not_finite_stay_in_their_bins() -> None:
    x = features(4)
    x[0, 2, 6, 2], x[1, 1, 3, 8] = math.nan, math.inf
    have = regions.position_sensitive_pool(x, ROIS, 1, 2, (1 / 8, 1 / 8))
    want = slow_ps_pool(x, ROIS, 1, 2, 1 / 8)
    assert want.isfinite().sum() > 0.7 * want.numel() > 0
    assert not want.isfinite().all()
    torch.testing.assert_close(have, want, equal_nan=True)


def test_gradient_of_position_sensitive_pool() -> None:
    x = features(4).requires_grad_()

    def pool(x: Tensor) -> Tensor:
        return regions.position_sensitive_pool(x, ROIS, 1, 2, (1 / 8, 1 / 8))

    assert torch.autograd.gradcheck(pool, (x,))


def slow_bilinear(plane: Tensor, y: float, x: float) -> float:
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    a, b = floor(y), floor(x)
    total = 0.0
    for row, down in ((a, 1 - (y - a)), (min(a + 1, H - 1), y - a)):
        for column, across in ((b, 1 - (x - b)), (min(b + 1, W - 1), x - b)):
            total += float(plane[row, column]) * down * across
    return total


@pytest.mark.parametrize("pad", [0.0, 0.25])
def test_align_at_the_corners_of_bins(pad: float) -> None:
    x, pooled = features(2), (2, 3)
    have = regions.align_grid(x, ROIS, pooled, (1 / 8, 1 / 8), pad)
    assert have.shape == (len(ROIS), 2, 3, 4)
    for r, (image, x1, y1, x2, y2) in enumerate(ROIS.tolist()):
        px, py = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
        left, right = (x1 - px) / 8 - 0.5, (x2 + px) / 8 - 0.5
        up, down = (y1 - py) / 8 - 0.5, (y2 + py) / 8 - 0.5
        for i in range(3):
            for j in range(4):
                y, z = up + i * (down - up) / 2, left + j * (right - left) / 3
                seen = -0.5 <= y <= H - 0.5 and -0.5 <= z <= W - 0.5
                seen = seen and right > left and down > up
                want = [slow_bilinear(p, y, z) if seen else 0 for p in x[int(image)]]
                assert have[r, :, i, j].tolist() == pytest.approx(want, abs=1e-12)


def test_align_inside_of_bins() -> None:
    x, pooled = features(2), (2, 3)
    have = regions.align_bins(x, ROIS, pooled, (1 / 8, 1 / 8))
    assert have.shape == (len(ROIS), 2, 2, 3)
    for r, (image, x1, y1, x2, y2) in enumerate(ROIS.tolist()):
        h, w = max(y2 / 8 - y1 / 8, 1) / 2, max(x2 / 8 - x1 / 8, 1) / 3
        for i in range(2):
            for j in range(3):
                a, b = (min(max(y1 / 8 + k * h, 0), H) for k in (i, i + 1))
                c, d = (min(max(x1 / 8 + k * w, 0), W) for k in (j, j + 1))
                ny, nx = ceil(b - a), ceil(d - c)
                for channel, plane in enumerate(x[int(image)]):
                    points = [
                        slow_bilinear(plane, a + (p + 0.5) * h / ny, c + (q + 0.5) * w / nx)
                        for p in range(ny)
                        for q in range(nx)
                    ]
                    want = sum(points) / len(points) if points else 0
                    assert float(have[r, channel, i, j]) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("ratio", [0, 1, 3])
def test_align_at_samples(ratio: int) -> None:
    """The mean of all points of a bin, of which those far outside of the map are 0."""
    x, pooled = features(2), (2, 3)
    have = regions.align_samples(x, ROIS, pooled, (1 / 8, 1 / 8), ratio)
    assert have.shape == (len(ROIS), 2, 2, 3)
    outside = 0
    for r, (image, x1, y1, x2, y2) in enumerate(ROIS.tolist()):
        h, w = max(y2 / 8 - y1 / 8, 1) / 2, max(x2 / 8 - x1 / 8, 1) / 3
        ny, nx = (ratio, ratio) if ratio else (ceil(h), ceil(w))
        for i in range(2):
            for j in range(3):
                total = [0.0, 0.0]
                for p in range(ny):
                    for q in range(nx):
                        y = y1 / 8 + i * h + (p + 0.5) * h / ny
                        z = x1 / 8 + j * w + (q + 0.5) * w / nx
                        if not (-1 <= y <= H and -1 <= z <= W):
                            outside += 1
                            continue
                        for c, plane in enumerate(x[int(image)]):
                            total[c] += slow_bilinear(plane, y, z)
                want = [t / (ny * nx) for t in total]
                assert have[r, :, i, j].tolist() == pytest.approx(want, abs=1e-12)
    assert outside


def three_samples(
    x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: tuple[float, float]
) -> Tensor:
    return regions.align_samples(x, rois, pooled, scale, 3)


@pytest.mark.parametrize("kind", [regions.align_grid, regions.align_bins, three_samples])
def test_align_in_parts(monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Tensor]) -> None:
    x = features(2).to(memory_format=torch.channels_last)
    whole = kind(x, ROIS, (2, 3), (1 / 8, 1 / 8))
    monkeypatch.setattr(regions, "CELLS", 200)
    parts = [kind(x, roi[None], (2, 3), (1 / 8, 1 / 8)) for roi in ROIS]
    torch.testing.assert_close(kind(x, ROIS, (2, 3), (1 / 8, 1 / 8)), whole)
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("kind", [regions.align_grid, regions.align_bins])
def test_align_reads_no_cell_without_weight(kind: Callable[..., Tensor]) -> None:
    x, unit = features(1), torch.zeros(2, 1, H, W, dtype=torch.float64)
    want = kind(x, ROIS, (3, 3), (1 / 8, 1 / 8))
    x[0, 0, 1, 2], unit[0, 0, 1, 2] = math.nan, 1
    touched = kind(unit, ROIS, (3, 3), (1 / 8, 1 / 8)) > 0
    have = kind(x, ROIS, (3, 3), (1 / 8, 1 / 8))
    assert 0 < touched.sum() < 0.3 * touched.numel()
    assert torch.equal(have.isnan(), touched)
    torch.testing.assert_close(have[~touched], want[~touched])


@pytest.mark.parametrize("kind", [regions.align_grid, regions.align_bins, three_samples])
def test_gradient_of_align(kind: object) -> None:
    x = features(1).requires_grad_()

    def pool(x: Tensor) -> Tensor:
        return kind(x, ROIS, (2, 2), (1 / 8, 1 / 8))  # type: ignore[operator]

    assert torch.autograd.gradcheck(pool, (x,))


def test_no_regions() -> None:
    x, none = features(4), torch.zeros(0, 5, dtype=torch.float64)
    assert regions.max_pool(x, none, (2, 2), (1, 1)).shape == (0, 4, 2, 2)
    assert regions.position_sensitive_pool(x, none, 1, 2, (1, 1)).shape == (0, 1, 2, 2)
    assert regions.align_grid(x, none, (2, 2), (1, 1)).shape == (0, 4, 3, 3)
    assert regions.align_bins(x, none, (2, 2), (1, 1)).shape == (0, 4, 2, 2)
    for ratio in (0, 2):
        assert regions.align_samples(x, none, (2, 2), (1, 1), ratio).shape == (0, 4, 2, 2)
