"""DeformablePSROIPooling: position-sensitive pooling over bins that learn where to lie."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.regions import round_half_away
from moka.layers.detection.roi import check_regions, clean_regions
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.types import Shape

LEAST_EXTENT = 0.1  # cells


@layer(
    "DeformablePSROIPooling",
    bottoms=(2, 3),
    tops=1,
    fixed_bottoms=(1,),
    fork="Deformable ConvNets",
)
class DeformablePSROIPooling(Layer):
    """Mean pooling of each region in which each bin has its own channels, and bins are moved.

    A region has group_size x group_size bins (k = group_size below). Corners are rounded in the
    image, one is added to the second, they are scaled, and half a cell is subtracted; a region is
    at least 0.1 cells high and wide. Bin (i, j) of output channel c is moved by trans_std times its
    offset, in heights and widths of the region, and is the mean of channel (c k + i) k + j at
    sample_per_part x sample_per_part points, the first at the bin's corner. Points up to half a
    cell outside of the map take the values of its edge, others do not count; a bin without points
    gives 0.

    Bottoms: features (N, output_dim k^2, H, W); regions (R, 5) of image index and corners x1, y1,
    x2, y2 in pixels of the image (no gradient); offsets (R, 2 G, part_size, part_size): for each of
    G groups of output channels the offsets across, then those down, where part_size parts stand for
    k bins. With no_trans the third bottom is left out or not read. Top: (R, output_dim, k, k).
    Message: deformable_psroi_pooling_param; part_size is k by default. Dai et al., 2017.

    Errors: another number of channels; offsets of another shape, or none without no_trans; regions
    that are not R 5; a region of an image that is not in the batch.
    """

    spatial_scale: float = option(positive, required=True)
    output_dim: int = option(positive, required=True)
    group_size: int = option(positive, required=True)
    part_size: int | None = option(positive)
    sample_per_part: int = option(positive, required=True)
    trans_std: float | None = option()
    no_trans: bool = option()

    def setup(self, x: Shape, rois: Shape, offsets: Shape | None = None) -> None:
        if not self.no_trans and offsets is None:
            raise NetError("needs a third bottom, the offsets, or no_trans: true.")
        if not self.no_trans and self.trans_std is None:
            raise NetError("trans_std is missing.")
        self.parts = self.part_size or self.group_size

    def top_shapes(self, x: Shape, rois: Shape, offsets: Shape | None = None) -> list[Shape]:
        check_regions(x, rois)
        k = self.group_size
        if x[1] != self.output_dim * k**2:
            raise NetError(
                f"output_dim {self.output_dim} and group_size {k} need"
                f" {self.output_dim * k**2} channels, got {x[1]}."
            )
        if offsets is not None and not self.no_trans:
            self._check_offsets(rois[0], offsets)
        return [(rois[0], self.output_dim, k, k)]

    def _check_offsets(self, regions: int, offsets: Shape) -> None:
        size = (self.parts, self.parts)
        if len(offsets) != 4 or (offsets[0], *offsets[2:]) != (regions, *size):
            raise NetError(f"offsets must be {(regions, '2 G', *size)}, got shape {offsets}.")
        groups = offsets[1] // 2
        if offsets[1] % 2 or not groups or self.output_dim % groups:
            raise NetError(
                f"offsets must have 2 channels for each of some groups of {self.output_dim} output"
                f" channels, got {offsets[1]}."
            )

    def forward(self, x: Tensor, rois: Tensor, offsets: Tensor | None = None) -> Tensor:
        rois = clean_regions(rois, len(x))
        corners = round_half_away(rois[:, 1:])
        first = corners[:, :2] * self.spatial_scale - 0.5  # x, y
        extent = (corners[:, 2:] + 1) * self.spatial_scale - 0.5 - first
        extent = extent.clamp_min(LEAST_EXTENT)
        moves = self._moves(offsets, rois)  # (R, G, 2, k, k)
        across, down = (
            first[:, axis, None, None, None] + extent[:, axis, None, None, None] * moves[:, :, axis]
            for axis in (0, 1)
        )
        size = extent / self.group_size
        bins = torch.arange(self.group_size, device=x.device, dtype=x.dtype)
        points = torch.arange(self.sample_per_part, device=x.device) / self.sample_per_part
        rows = down + size[:, 1, None, None, None] * bins[:, None]
        rows = rows[..., None] + size[:, 1, None, None, None, None] * points
        columns = across + size[:, 0, None, None, None] * bins
        columns = columns[..., None] + size[:, 0, None, None, None, None] * points
        return _means(x, rois[:, 0].long(), rows, columns)

    def _moves(self, offsets: Tensor | None, rois: Tensor) -> Tensor:
        """How far bins are moved (R, G, 2, k, k): across and down, in widths and heights."""
        k = self.group_size
        if self.no_trans or offsets is None:
            return rois.new_zeros(len(rois), 1, 2, k, k)
        part = torch.arange(k, device=rois.device) * self.parts // k
        by_bin = offsets[:, :, part][..., part]
        return by_bin.reshape(len(rois), offsets.shape[1] // 2, 2, k, k) * (self.trans_std or 0.0)


def _means(x: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The means (R, C, k, k) of bilinear values of features (N, C k k, H, W) at the points of bins
    whose rows and columns are (R, G, k, k, S); for each of G groups of the C output channels."""
    (_, channels, height, width), (regions, groups, k, _, _) = x.shape, rows.shape
    each = channels // (groups * k * k)
    cells = x.reshape(-1, groups, each, k, k, height, width).permute(0, 1, 3, 4, 5, 6, 2)
    bins = torch.arange(groups * k * k, device=x.device).view(groups, k, k)
    plane = image[:, None, None, None] * (groups * k * k) + bins  # (R, G, k, k)
    (top, tall, some_rows), (left, wide, some_columns) = (
        _cells(places, size) for places, size in ((rows, height), (columns, width))
    )
    inside = some_rows[..., :, None] & some_columns[..., None, :]  # (R, G, k, k, S, S)
    weight = tall[..., :, None, :, None] * wide[..., None, :, None, :] * inside[..., None, None]
    index = (plane[..., None, None] * height + top.flatten(4)[..., None]) * width
    index = index + left.flatten(4)[..., None, :]  # (R, G, k, k, 2 S, 2 S)
    samples = inside.shape[-1]
    index = index.view(*index.shape[:4], samples, 2, samples, 2).transpose(5, 6)
    count = inside.flatten(4).sum(4).clamp_min(1)
    sums = embedding_bag(
        index.reshape(-1, 4 * samples**2),
        cells.reshape(-1, each),
        mode="sum",
        per_sample_weights=weight.reshape(-1, 4 * samples**2),
    )
    means = sums.view(regions, groups, k, k, each) / count[..., None]
    return means.permute(0, 1, 4, 2, 3).reshape(regions, groups * each, k, k)


def _cells(places: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells around places on an axis and their shares, (..., 2) each; and which places
    count."""
    inside = (places >= -0.5) & (places <= size - 0.5)
    held = places.clamp(0, size - 1)
    cells = torch.stack([held.detach().floor(), held.detach().ceil()], -1)
    second = held - cells[..., 0]
    return cells.long(), torch.stack([1 - second, second], -1), inside
