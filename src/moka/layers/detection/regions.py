"""Pooling over regions: as many values from each region of a feature map, whatever its size.

Pure functions; regions are rows (R, 5) of image index and corners x1, y1, x2, y2 in pixels of the
image, both corners included. The layers are in `roi.py`.
"""

from __future__ import annotations

from math import isnan

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from moka.errors import DataError

BINS = 4096  # computed together: what they read fits into a core's cache
CHANNELS = 64  # computed together: the maxima of all windows stay in the cache

CELLS = 1 << 20  # whose means are computed together: bounds memory

CellsPerPixel = tuple[
    float, float
]  # cells of the feature map in a pixel of the image: down, across


def round_half_away(x: Tensor) -> Tensor:
    """The nearest whole number; a half goes away from zero, as C's `round` does."""
    return x.sign() * (x.abs() + 0.5).floor()


def padded_edges(rois: Tensor, pad_ratio: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edges x1, y1, x2, y2 (R,) of regions enlarged by a share of their size on each side."""
    x1, y1, x2, y2 = rois[:, 1:5].unbind(1)
    pad_x, pad_y = (x2 - x1 + 1) * pad_ratio, (y2 - y1 + 1) * pad_ratio
    return x1 - pad_x, y1 - pad_y, x2 + pad_x, y2 + pad_y


def max_pool(
    x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: CellsPerPixel, pad_ratio: float = 0.0
) -> Tensor:
    """The largest value (R, C, h, w) in each of h x w bins of each region; 0 in an empty bin.

    Corners are scaled and rounded; a region is at least one cell high and wide. Bin k of an axis
    reaches from floor(k size / bins) to ceil((k + 1) size / bins), so neighbors may share cells.
    Of equal values the first in row-major order gets the gradient.

    Args:
        x: features (N, C, H, W).
        pooled: h, w.
        pad_ratio: enlarges each region by this share of its size on each side.
    """
    x1, y1, x2, y2 = padded_edges(rois, pad_ratio)
    rows = _whole_bins(y1 * scale[0], y2 * scale[0], pooled[0], x.shape[2])
    columns = _whole_bins(x1 * scale[1], x2 * scale[1], pooled[1], x.shape[3])
    best = _largest(x.permute(0, 2, 3, 1), rois[:, 0].long(), rows, columns)
    empty = (rows[1] <= rows[0])[:, :, None] | (columns[1] <= columns[0])[:, None, :]
    best = best.view(len(rois), *pooled, x.shape[1])
    best[empty] = 0
    return best.permute(0, 3, 1, 2)


def _whole_bins(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """First and one-past-last cell (R, bins), int64, of the bins of rounded intervals."""
    first = round_half_away(start)
    step = (round_half_away(end) - first + 1).clamp(min=1) / bins
    k = torch.arange(bins, device=start.device, dtype=start.dtype)
    low = (k * step[:, None]).floor() + first[:, None]
    high = ((k + 1) * step[:, None]).ceil() + first[:, None]
    return low.clamp(0, size).long(), high.clamp(0, size).long()


def _largest(
    images: Tensor, image: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> Tensor:
    """The largest values (R h w, C) of images (N, H, W, C) in bins of rows and columns; an empty
    bin has any value.

    The bin at rows a to b and columns c to d is made up of four windows, which may overlap: one
    in each corner, whose sides are the largest powers of two that fit.
    """
    n, height, width, channels = images.shape
    learns = images.requires_grad
    with torch.no_grad():
        keys = _with_positions(images) if learns else images
        tall, tops = _corners(rows, height)
        wide, lefts = _corners(columns, width)
        levels = [int(level.max()) + 1 if level.numel() else 1 for level in (tall, wide)]
        level = tall[:, :, None] * levels[1] + wide[:, None, :]
        base = (level * n + image[:, None, None]) * (height * width)
        corners = [
            (base + top[:, :, None] * width + left[:, None, :]).view(-1)
            for top in tops
            for left in lefts
        ]
        best = keys.new_empty(base.numel(), channels)
        together = min(CHANNELS, channels)
        table = keys.new_empty(*levels, n, height, width, together)
        room = keys.new_empty(4, min(BINS, len(best)), together)
        for c in range(0, channels, together):
            some = keys[..., c : c + together]
            windows = _fill_windows(table[..., : some.shape[3]], some).flatten(0, 4)
            for start in range(0, len(best), BINS):
                part = best[start : start + BINS, c : c + together]
                four = room[:, : len(part), : some.shape[3]]
                for corner, found in zip(corners, four, strict=True):
                    torch.index_select(windows, 0, corner[start : start + BINS], out=found)
                torch.maximum(four[:2], four[2:], out=four[:2])
                torch.maximum(four[0], four[1], out=part)
    if learns:
        cell = best.bitwise_not_().bitwise_and_(0xFFFFFFFF)
        return images.reshape(-1, channels).gather(0, cell)
    return best


def _with_positions(images: Tensor) -> Tensor:
    """Whole numbers (int64) that order as the values of images (N, H, W, C) do, and equal values
    by their cell, the first on top; a NaN is above all. The low 32 bits are the complement of the
    cell's index."""
    n, h, w, _ = images.shape
    if images.dtype == torch.float64:
        rank = torch.unique(images, return_inverse=True)[1]
    else:
        bits = (images.float() + 0.0).contiguous().view(torch.int32)  # + 0: no negative zero
        rank = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).masked_fill_(images.isnan(), 0x7FFFFFFF).long()
    cell = torch.arange(n * h * w, device=images.device).view(n, h, w, 1)
    return ((rank << 32) + (0xFFFFFFFF - cell)).contiguous()


def _corners(bins: tuple[Tensor, Tensor], size: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Along one axis: k of the windows of 2^k cells, the largest that fit into bins, and the
    first cells of the window at a bin's start and of the one at its end."""
    low, high = bins
    level = torch.frexp((high - low).clamp(min=1).double())[1].long() - 1
    return level, (low.clamp(max=size - 1), (high - (1 << level)).clamp(min=0))


def _fill_windows(table: Tensor, images: Tensor) -> Tensor:
    """Fill a table (K, L, N, H, W, C) with the maxima of images (N, H, W, C) over windows of
    2^k x 2^l cells, each at its first cell."""
    table[0, 0] = images
    for across in range(1, table.shape[1]):
        _doubled(table[0, across - 1], table[0, across], 2, 2 ** (across - 1))
    for down in range(1, table.shape[0]):
        _doubled(table[down - 1], table[down], 2, 2 ** (down - 1))
    return table


def _doubled(old: Tensor, new: Tensor, axis: int, shift: int) -> None:
    """Fill `new` with maxima over windows that are twice as long along an axis as in `old`.

    A window that would leave the image keeps its old length; no bin asks for it.
    """
    size = old.shape[axis]
    rest = size - shift
    torch.maximum(
        old.narrow(axis, 0, rest), old.narrow(axis, shift, rest), out=new.narrow(axis, 0, rest)
    )
    new.narrow(axis, rest, shift).copy_(old.narrow(axis, rest, shift))


def position_sensitive_pool(
    x: Tensor, rois: Tensor, output_dim: int, group: int, scale: CellsPerPixel
) -> Tensor:
    """The mean (R, output_dim, group, group) of each bin over its own channel; 0 if it is empty.

    Bin (i, j) of output channel c reads channel (c group + i) group + j. Corners are rounded in
    the image, one is added to the second, then they are scaled, without further rounding; a
    region is at least 0.1 cells high and wide.

    Args:
        x: features (N, output_dim group^2, H, W).
    """
    h, w = x.shape[2:]
    x1, y1, x2, y2 = (round_half_away(edge) for edge in rois[:, 1:5].unbind(1))
    top, bottom = _real_bins(y1 * scale[0], (y2 + 1) * scale[0], group, h)
    left, right = _real_bins(x1 * scale[1], (x2 + 1) * scale[1], group, w)
    maps = x.reshape(len(x), output_dim, group, group, h, w)
    cells = maps.permute(0, 2, 3, 4, 5, 1).reshape(-1, output_dim).contiguous()
    bin_ = torch.arange(group * group, device=x.device).view(group, group)
    plane = rois[:, 0].long().view(-1, 1, 1) * group**2 + bin_
    first = (plane * h + top[:, :, None]) * w + left[:, None, :]
    high = (bottom - top).clamp(min=0)[:, :, None].expand_as(first)
    wide = (right - left).clamp(min=0)[:, None, :].expand_as(first)
    together = max(1, CELLS // ((h + group) * (w + group)))
    means = []
    for start in range(0, max(1, len(rois)), together):
        a, b, c = (t[start : start + together].flatten() for t in (first, high, wide))
        means.append(_rectangle_means(cells, a, b, c, w))
    return torch.cat(means).view(-1, group, group, output_dim).permute(0, 3, 1, 2)


def _rectangle_means(cells: Tensor, first: Tensor, high: Tensor, wide: Tensor, w: int) -> Tensor:
    """Means (M, C) of cells (K, C), the rows of planes of width w, over rectangles.

    Args:
        first: (M,) the row of `cells` of a rectangle's first corner.
        high, wide: (M,) sizes; 0 gives the mean 0.
    """
    count = high * wide
    start = count.cumsum(0) - count
    each = torch.stack([start, first, wide]).int().repeat_interleave(count, 1)
    place = torch.arange(each.shape[1], device=each.device, dtype=each.dtype) - each[0]
    row = place.div(each[2], rounding_mode="floor")
    index = each[1] + row * w + (place - row * each[2])
    return embedding_bag(index, cells, start.int(), mode="mean")


def _real_bins(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """First and one-past-last cell (R, bins), int64, of the bins of intervals as they are."""
    step = (end - start).clamp(min=0.1) / bins
    k = torch.arange(bins, device=start.device, dtype=start.dtype)
    low = (k * step[:, None] + start[:, None]).floor()
    high = ((k + 1) * step[:, None] + start[:, None]).ceil()
    return low.clamp(0, size).long(), high.clamp(0, size).long()


def align_grid(
    x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: CellsPerPixel, pad_ratio: float = 0.0
) -> Tensor:
    """Values (R, C, h + 1, w + 1) at the corners of h x w bins of each region (MS-CNN's way).

    Nothing is rounded; half a cell is subtracted, so that the middle of a cell has whole
    coordinates. 0 where a corner lies outside of the map, and for a region without extent.
    """
    x1, y1, x2, y2 = padded_edges(rois, pad_ratio)
    axes = []
    for start, end, bins, size in (
        (y1 * scale[0] - 0.5, y2 * scale[0] - 0.5, pooled[0], x.shape[2]),
        (x1 * scale[1] - 0.5, x2 * scale[1] - 0.5, pooled[1], x.shape[3]),
    ):
        k = torch.arange(bins + 1, device=x.device, dtype=start.dtype)
        at = start[:, None] + k * ((end - start) / bins)[:, None]
        inside = (at >= -0.5) & (at <= size - 0.5) & (end > start)[:, None]
        axes.append(_cell_weights(at[..., None], inside[..., None].to(at), size))
    return _weighted_sums(x, rois[:, 0].long(), *axes)


def align_bins(x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: CellsPerPixel) -> Tensor:
    """Means (R, C, h, w) over points inside of h x w bins of each region (ncnn's way).

    Nothing is rounded or shifted; a region is at least one cell high and wide. A bin, cut to the
    map, has a grid of ceil(height) x ceil(width) points, which lie as they would in the whole
    bin; an empty bin gives 0.
    """
    x1, y1, x2, y2 = rois[:, 1:5].unbind(1)
    down = _points(y1 * scale[0], y2 * scale[0], pooled[0], x.shape[2])
    across = _points(x1 * scale[1], x2 * scale[1], pooled[1], x.shape[3])
    axes = (_cell_weights(*down, x.shape[2]), _cell_weights(*across, x.shape[3]))
    return _weighted_sums(x, rois[:, 0].long(), *axes)


def align_samples(
    x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: CellsPerPixel, ratio: int
) -> Tensor:
    """Means (R, C, h, w) over points spread evenly in h x w bins of each region (Detectron's way).

    Nothing is rounded or shifted; a region is at least one cell high and wide. A point more than
    one cell before the map, or beyond its size, counts as 0.

    Args:
        ratio: points of a bin along each axis; 0 or less: as many as its size in cells, rounded up.
    """
    x1, y1, x2, y2 = rois[:, 1:5].unbind(1)
    down = _samples(y1 * scale[0], y2 * scale[0], pooled[0], x.shape[2], ratio)
    across = _samples(x1 * scale[1], x2 * scale[1], pooled[1], x.shape[3], ratio)
    axes = (_cell_weights(*down, x.shape[2]), _cell_weights(*across, x.shape[3]))
    return _weighted_sums(x, rois[:, 0].long(), *axes)


def _samples(start: Tensor, end: Tensor, bins: int, size: int, ratio: int) -> tuple[Tensor, Tensor]:
    """As `_points`, for points that are spread over whole bins."""
    step = (end - start).clamp(min=1) / bins
    count = torch.full_like(step, ratio) if ratio > 0 else step.ceil()
    most = int(count.max()) if count.numel() else 1
    k = torch.arange(bins, device=start.device, dtype=start.dtype)
    j = torch.arange(most, device=start.device, dtype=start.dtype)
    low = start[:, None] + k * step[:, None]
    at = low[..., None] + ((j + 0.5) * (step / count)[:, None])[:, None]
    counts = (j < count[:, None])[:, None] & (at >= -1) & (at <= size)
    return at, counts.to(start.dtype) / count[:, None, None]


def _points(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """Where the points of each bin lie along one axis, and their weights, both (R, bins, most)."""
    step = (end - start).clamp(min=1) / bins
    k = torch.arange(bins, device=start.device, dtype=start.dtype)
    low = (start[:, None] + k * step[:, None]).clamp(0, size)
    high = (start[:, None] + (k + 1) * step[:, None]).clamp(0, size)
    count = (high - low).ceil()
    most = int(count.max()) if count.numel() else 1
    j = torch.arange(max(1, most), device=start.device, dtype=start.dtype)
    per_bin = count.clamp(min=1)[..., None]
    at = low[..., None] + (j + 0.5) * step[:, None, None] / per_bin
    return at, (j < count[..., None]).to(start.dtype) / per_bin


def _cell_weights(at: Tensor, share: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What cells of one axis add to bilinear values at points, summed over the points of a bin.

    A cell's weight falls from 1 at the cell to 0 at its neighbors; beyond the last cell the edge
    is repeated.

    Args:
        at: (R, bins, points), rising.
        share: (R, bins, points), the points' own weights; those that have none come last, or lie
            outside of the cells.

    Returns:
        the first cell (R, bins), int64; weights (R, bins, cells) of it and those that follow.
    """
    at = at.clamp(0, size - 1)
    at = at.where(share > 0, at[..., :1])
    first = at[..., 0].floor()
    most = float((at.amax(-1).floor() - first).max()) if at.numel() else -1.0
    if isnan(most):
        raise DataError("a region's corner is not a number.")
    count = int(most) + 2
    cell = first[..., None] + torch.arange(count, device=at.device, dtype=at.dtype)
    distance = (at[..., None, :] - cell[..., :, None]).abs()
    return first.long(), ((1 - distance).clamp(min=0) * share[..., None, :]).sum(-1)


def _weighted_sums(
    x: Tensor, image: Tensor, down: tuple[Tensor, Tensor], across: tuple[Tensor, Tensor]
) -> Tensor:
    """Sums (R, C, h, w) of cells of features (N, C, H, W), weighted along both axes.

    Args:
        image: (R,).
        down, across: first cells and weights of bins (see `_cell_weights`).
    """
    _, c, h, w = x.shape
    cells = x.permute(0, 2, 3, 1).reshape(-1, c).contiguous()
    (top, tall), (left, wide) = down, across
    rows = top[..., None] + torch.arange(tall.shape[2], device=x.device)
    rows = (rows.clamp(max=h - 1) + image[:, None, None] * h) * w
    columns = left[..., None] + torch.arange(wide.shape[2], device=x.device)
    columns = columns.clamp(max=w - 1)
    each = tall[0].numel() * wide[0].numel() if len(image) else 1
    together = max(1, CELLS // each)
    sums = []
    for start in range(0, max(1, len(image)), together):
        part = slice(start, start + together)
        weight = tall[part, :, None, :, None] * wide[part, None, :, None, :]
        used = weight != 0
        count = used.sum((3, 4)).flatten()
        index = (rows[part, :, None, :, None] + columns[part, None, :, None, :])[used]
        offsets = count.cumsum(0) - count
        weight = weight[used].to(x.dtype)
        sums.append(embedding_bag(index, cells, offsets, mode="sum", per_sample_weights=weight))
    return torch.cat(sums).view(-1, top.shape[1], left.shape[1], c).permute(0, 3, 1, 2)
