"""Pooling over regions: as many values from each region of a feature map, whatever its size.

Pure functions; regions are rows (R, 5) of image index and corners x1, y1, x2, y2 in pixels of the
image, both corners included. The layers are in `roi.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 512  # computed together: what they read fits into a core's cache
CHANNELS = 512  # computed together: bounds the memory that the maxima of all windows take

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
    image = rois[:, 0].long()
    cells = x.permute(0, 2, 3, 1)
    parts = [
        _largest(cells[..., c : c + CHANNELS], image, rows, columns)
        for c in range(0, x.shape[1], CHANNELS)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, -1)).permute(0, 3, 1, 2)


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
    """The largest values (R, h, w, C) of images (N, H, W, C) in bins of rows and columns."""
    with torch.no_grad():
        learns = images.requires_grad
        keys = _with_positions(images) if learns else images.contiguous()
        empty = (rows[1] <= rows[0])[:, :, None] | (columns[1] <= columns[0])[:, None, :]
        table, windows = _windows(keys, image, rows, columns)
        best = table.new_empty(len(windows), images.shape[3])
        for start in range(0, len(windows), BINS):
            a, b, c, d = windows[start : start + BINS].unbind(1)
            upper = torch.maximum(table[a], table[b])
            lower = torch.maximum(table[c], table[d])
            torch.maximum(upper, lower, out=best[start : start + BINS])
    if learns:
        best = images.reshape(-1, images.shape[3]).gather(0, ~best & 0xFFFFFFFF)
    best = best.view(*empty.shape, images.shape[3])
    return best.masked_fill(empty[..., None], 0)


def _with_positions(images: Tensor) -> Tensor:
    """Whole numbers (int64) that order as the values of images (N, H, W, C) do, and equal values
    by their cell, the first on top. The low 32 bits are the complement of the cell's index."""
    n, h, w, _ = images.shape
    if images.dtype == torch.float64:
        rank = torch.unique(images, return_inverse=True)[1]
    else:
        bits = (images.float() + 0.0).contiguous().view(torch.int32)  # + 0: no negative zero
        rank = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    cell = torch.arange(n * h * w, device=images.device).view(n, h, w, 1)
    return ((rank << 32) + (0xFFFFFFFF - cell)).contiguous()


def _windows(
    images: Tensor, image: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Maxima over all windows of 2^k x 2^l cells, and which four of them make up each bin.

    Returns:
        the maxima, (windows, C); four rows of it for each bin, (bins, 4).
    """
    n, h, w, c = images.shape
    level_y, level_x = (_log2(high - low) for low, high in (rows, columns))
    levels = [int(level.max()) + 1 if level.numel() else 1 for level in (level_y, level_x)]
    table = images.new_empty(*levels, n, h, w, c)
    table[0, 0] = images
    for across in range(1, levels[1]):
        _doubled(table[0, across - 1], table[0, across], 2, 2 ** (across - 1))
    for down in range(1, levels[0]):
        _doubled(table[down - 1], table[down], 2, 2 ** (down - 1))
    tops = (rows[0].clamp(max=h - 1), (rows[1] - (1 << level_y)).clamp(min=0))
    lefts = (columns[0].clamp(max=w - 1), (columns[1] - (1 << level_x)).clamp(min=0))
    level = level_y[:, :, None] * levels[1] + level_x[:, None, :]
    base = (level * n + image[:, None, None]) * (h * w)
    four = [base + top[:, :, None] * w + left[:, None, :] for top in tops for left in lefts]
    return table.view(-1, c), torch.stack(four, -1).view(-1, 4)


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


def _log2(count: Tensor) -> Tensor:
    """The largest k with 2^k <= count, 0 for counts below 1 (int64)."""
    return torch.frexp(count.clamp(min=1).double())[1].long() - 1


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
    n, _, h, w = x.shape
    x1, y1, x2, y2 = (round_half_away(edge) for edge in rois[:, 1:5].unbind(1))
    top, bottom = _real_bins(y1 * scale[0], (y2 + 1) * scale[0], group, h)
    left, right = _real_bins(x1 * scale[1], (x2 + 1) * scale[1], group, w)
    sums = x.new_zeros(n, x.shape[1], h + 1, w + 1, dtype=torch.float64)
    sums[:, :, 1:, 1:] = x.double().cumsum(2).cumsum(3)
    channel = torch.arange(x.shape[1], device=x.device).view(output_dim, group, group)
    image = rois[:, 0].long().view(-1, 1, 1, 1)
    plane = (image * x.shape[1] + channel) * (h + 1) * (w + 1)
    flat = sums.view(-1)

    def upto(y: Tensor, x_: Tensor) -> Tensor:
        """Sums over the cells above and left of (y, x_)."""
        return flat[plane + (y[:, None, :, None] * (w + 1) + x_[:, None, None, :])]

    total = upto(bottom, right) - upto(top, right) - upto(bottom, left) + upto(top, left)
    cells = (bottom - top).clamp(min=0)[:, :, None] * (right - left).clamp(min=0)[:, None, :]
    mean = total / cells.clamp(min=1)[:, None]
    return mean.where(cells[:, None] > 0, 0).to(x.dtype)


def _real_bins(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """First and one-past-last cell (R, bins), int64, of the bins of intervals as they are."""
    step = (end - start).clamp(min=0.1) / bins
    k = torch.arange(bins, device=start.device, dtype=start.dtype)
    low = (k * step[:, None] + start[:, None]).floor()
    high = ((k + 1) * step[:, None] + start[:, None]).ceil()
    return low.clamp(0, size).long(), high.clamp(0, size).long()


def sample(x: Tensor, image: Tensor, y: Tensor, x_: Tensor) -> Tensor:
    """Values (R, h, w, C) of features (N, C, H, W) at rows y (R, h) and columns x_ (R, w).

    Bilinear between the four cells around; beyond the last cell the edge is repeated.
    """
    n, c, h, w = x.shape
    cells = x.permute(0, 2, 3, 1).reshape(n * h * w, c)
    y, x_ = y.clamp(0, h - 1), x_.clamp(0, w - 1)
    top, left = y.floor(), x_.floor()
    down, right = (y - top)[:, :, None, None], (x_ - left)[:, None, :, None]
    rows = (top.long(), (top.long() + 1).clamp(max=h - 1))
    columns = (left.long(), (left.long() + 1).clamp(max=w - 1))
    start = image[:, None, None] * (h * w)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return cells[start + (row[:, :, None] * w + column[:, None, :])]

    upper = at(rows[0], columns[0]) * (1 - right) + at(rows[0], columns[1]) * right
    lower = at(rows[1], columns[0]) * (1 - right) + at(rows[1], columns[1]) * right
    return upper * (1 - down) + lower * down


def align_grid(
    x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: CellsPerPixel, pad_ratio: float = 0.0
) -> Tensor:
    """Values (R, C, h + 1, w + 1) at the corners of h x w bins of each region (MS-CNN's way).

    Nothing is rounded; half a cell is subtracted, so that the middle of a cell has whole
    coordinates. 0 where a corner lies outside of the map, and for a region without extent.
    """
    x1, y1, x2, y2 = padded_edges(rois, pad_ratio)
    grid = []
    inside = []
    for start, end, bins, size in (
        (y1 * scale[0] - 0.5, y2 * scale[0] - 0.5, pooled[0], x.shape[2]),
        (x1 * scale[1] - 0.5, x2 * scale[1] - 0.5, pooled[1], x.shape[3]),
    ):
        k = torch.arange(bins + 1, device=x.device, dtype=start.dtype)
        at = start[:, None] + k * ((end - start) / bins)[:, None]
        grid.append(at)
        inside.append((at >= -0.5) & (at <= size - 0.5) & (end > start)[:, None])
    values = sample(x, rois[:, 0].long(), grid[0], grid[1])
    seen = inside[0][:, :, None] & inside[1][:, None, :]
    return values.where(seen[..., None], 0).permute(0, 3, 1, 2)


def align_bins(x: Tensor, rois: Tensor, pooled: tuple[int, int], scale: CellsPerPixel) -> Tensor:
    """Means (R, C, h, w) over points inside of h x w bins of each region (ncnn's way).

    Nothing is rounded or shifted; a region is at least one cell high and wide. A bin, cut to the
    map, has a grid of ceil(height) x ceil(width) points, which lie as they would in the whole
    bin; an empty bin gives 0.
    """
    image = rois[:, 0].long()
    x1, y1, x2, y2 = rois[:, 1:5].unbind(1)
    down = _points(y1 * scale[0], y2 * scale[0], pooled[0], x.shape[2])
    across = _points(x1 * scale[1], x2 * scale[1], pooled[1], x.shape[3])
    values = sample(x, image, down[0].flatten(1), across[0].flatten(1))
    values = values.view(len(values), *down[0].shape[1:], *across[0].shape[1:], x.shape[1])
    weights = down[1][:, :, :, None, None, None] * across[1][:, None, None, :, :, None]
    return (values * weights).sum((2, 4)).permute(0, 3, 1, 2)


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
