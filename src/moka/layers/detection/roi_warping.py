"""ROIWarping: pooling over regions whose corners learn."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.regions import round_half_away
from moka.layers.detection.roi import LARGEST_CORNER, check_regions, clean_regions
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.types import Shape


class _Axis(NamedTuple):
    """The points of one region's bins along one axis, on the CPU.

    Attributes:
        at: where they lie, in cells, held inside of the map (bins, points).
        inside: whether they count (bins, points).
    """

    at: Tensor
    inside: Tensor

    def weights(self) -> tuple[slice, Tensor]:
        """The cells that the points reach, and their bilinear weights (bins points, cells)."""
        low, high = int(self.at.min()), int(self.at.max()) + 2
        cells = torch.arange(low, high, dtype=self.at.dtype)
        weights = (1 - (self.at.reshape(-1, 1) - cells).abs()).clamp_min(0)
        return slice(low, high), weights


def _axis(start: float, end: float, bins: int, size: int, dtype: torch.dtype) -> _Axis:
    """The points of `bins` bins between two edges: both ends of each bin, and as many between them
    that they are one cell apart at most. Of the points outside of the map most are left out."""
    extent = max(0.0, end - start)
    steps = max(1, -int(-extent // bins))  # of each bin
    step = extent / (bins * steps)
    first = torch.arange(bins, dtype=dtype)[:, None] * steps  # numbers of the bins' first points
    passed = ((-0.5 - start) / step - first).floor().clamp(0, steps) if step else first * 0
    count = 1 + (min(steps, int((size + 1) / step) + 2) if step else 0)
    number = passed + torch.arange(count, dtype=dtype)
    at = start + (first + number) * extent / (bins * steps)
    inside = (at >= -0.5) & (at <= size - 0.5) & (number <= steps)
    return _Axis(at.clamp(0, size - 1), inside)


def largest_places(
    x: Tensor, image: list[int], edges: Tensor, pooled: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Row and column of the point with the largest bilinear value in each bin (R, C, h, w), the
    first of equal ones; and whether the bin has a point inside of the map (R, 1, h, w).

    Args:
        x: features (N, C, H, W).
        image: of each region.
        edges: x1, y1, x2, y2 of each region in cells (R, 4), on the CPU.
    """
    (h, w), (channels, height, width) = pooled, x.shape[1:]
    found = []
    for n, (x1, y1, x2, y2) in zip(image, edges.tolist(), strict=True):
        down, across = _axis(y1, y2, h, height, x.dtype), _axis(x1, x2, w, width, x.dtype)
        (rows, tall), (columns, wide) = (
            (part, weights.to(x)[:, : size - part.start])
            for (part, weights), size in ((down.weights(), height), (across.weights(), width))
        )
        values = tall @ x[n, :, rows, columns] @ wide.T
        values = values.view(channels, h, -1, w, across.at.shape[1]).transpose(2, 3).flatten(3)
        inside = down.inside[:, None, :, None] & across.inside[None, :, None, :]
        inside = inside.flatten(2).to(x.device)
        best = values.masked_fill(~inside, -torch.inf).argmax(3)  # (C, h, w)
        steps = across.at.shape[1]
        found.append(
            (
                down.at.to(x)[torch.arange(h)[:, None], best // steps],
                across.at.to(x)[torch.arange(w), best % steps],
                inside.any(2)[None],
            )
        )
    if not found:
        none = x.new_zeros(0, channels, h, w)
        return none, none, none[:, :1].bool()
    row, column, some = zip(*found, strict=True)
    return torch.stack(row), torch.stack(column), torch.stack(some)


def sampled(x: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of features (N, C, H, W) at places (R, C, h, w) inside of the map; the
    gradient reaches features and places."""
    _, channels, height, width = x.shape
    flat = x.reshape(-1)
    plane = image[:, None] * channels + torch.arange(channels, device=x.device)
    plane = plane[..., None, None] * (height * width)
    top, left = rows.detach().floor(), columns.detach().floor()
    down, right = rows - top, columns - left
    y = x.new_zeros(())
    for dy, weight_y in ((0, 1 - down), (1, down)):
        row = (top.long() + dy).clamp_max(height - 1)
        for dx, weight_x in ((0, 1 - right), (1, right)):
            column = (left.long() + dx).clamp_max(width - 1)
            index = plane + row * width + column
            y = y + flat.index_select(0, index.flatten()).view(index.shape) * weight_y * weight_x
    return y


@layer("ROIWarping", bottoms=2, tops=1, fork="MNC")
class ROIWarping(Layer):
    """Max pooling of bilinear values in each region, whose gradient reaches the region, too.

    Corners are scaled and rounded (a half away from zero). A region is as high as its second corner
    is below the first, at least 0; each of its pooled_h x pooled_w bins has ceil(height / pooled_h)
    + 1 points down, from edge to edge, and likewise across. The top is the largest bilinear value
    among a bin's points. Points up to half a cell outside of the map take the values of its edge,
    others do not count; a bin without points gives 0.

    Bottoms: features (N, C, H, W); regions (R, 5) of image index and corners x1, y1, x2, y2 in
    pixels of the image. Top: (R, C, pooled_h, pooled_w). Of equal values the first point counts.
    The diff of a region is, as MNC's Python layers expect it, not that of its corners: it is 0 and
    the derivatives by x and y of the center, width and height, in cells; a point at share s of the
    height moves by the center and by (s - 1/2) of the height. Points in the last row or column add
    nothing. Message: roi_warping_param. Dai et al., 2016 (MNC).

    Errors: no pooled_h and pooled_w; regions that are not R 5; a region of an image that is not in
    the batch.

    MNC adds up the steps between points in float32, which may lose a bin's last one, and its
    gradient by the features leaves out cells of regions with fewer cells than bins.
    """

    pooled_h: int = option(positive)
    pooled_w: int = option(positive)
    spatial_scale: float = option(positive)

    def setup(self, x: Shape, rois: Shape) -> None:
        if not isfinite(self.spatial_scale):
            raise NetError(f"spatial_scale must be finite, got {self.spatial_scale:g}.")

    @property
    def can_be_recorded(self) -> bool:
        return False  # how many points a region has depends on its corners

    def top_shapes(self, x: Shape, rois: Shape) -> list[Shape]:
        check_regions(x, rois)
        return [(rois[0], x[1], self.pooled_h, self.pooled_w)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        clean = clean_regions(rois, len(x))
        scaled = (clean[:, 1:] * self.spatial_scale).clamp(-LARGEST_CORNER, LARGEST_CORNER)
        image, edges = clean[:, 0].long(), round_half_away(scaled)
        pooled = (self.pooled_h, self.pooled_w)
        with torch.no_grad():
            rows, columns, some = largest_places(x, image.tolist(), edges.cpu(), pooled)
        height, width = x.shape[2:]
        inner = some & (rows.floor() < height - 1) & (columns.floor() < width - 1)
        _, by_x, by_y, by_width, by_height = _without_value(rois)[..., None, None, None].unbind(1)
        x1, y1, x2, y2 = edges[..., None, None, None].unbind(1)
        share_down = (rows - y1) / (y2 - y1 + 1).clamp_min(1)
        share_across = (columns - x1) / (x2 - x1 + 1).clamp_min(1)
        rows = rows + inner * (by_y + (share_down - 0.5) * by_height)
        columns = columns + inner * (by_x + (share_across - 0.5) * by_width)
        return sampled(x, image, rows, columns).where(some, 0)


def _without_value(rois: Tensor) -> Tensor:
    """Zeros (R, 5) whose gradient is that of the regions."""
    rois = torch.nan_to_num(rois.reshape(-1, 5), nan=0.0, posinf=0.0, neginf=0.0)
    return rois - rois.detach()
