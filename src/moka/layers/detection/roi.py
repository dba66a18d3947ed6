"""Layers that pool over regions: ROIPooling, ROIAlign, PSROIPooling."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.detection.regions import (
    CellsPerPixel,
    align_bins,
    align_grid,
    align_samples,
    max_pool,
    position_sensitive_pool,
)
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape

LARGEST_CORNER = 1e8  # pixels: corners beyond are cut, which no bin can tell


def check_regions(x: Shape, rois: Shape) -> None:
    """Raises NetError unless the bottoms are features (N, C, H, W) and regions (R, 5)."""
    if len(x) != 4 or 0 in x[1:]:
        raise NetError(f"features are a blob N C H W, got shape {shape_text(x)}.")
    if len(rois) < 2 or rois[1] != 5 or any(n != 1 for n in rois[2:]):
        raise NetError(
            f"regions are a blob R 5 (image, x1, y1, x2, y2), got shape {shape_text(rois)}."
        )


def clean_regions(rois: Tensor, images: int) -> Tensor:
    """Regions (R, 5) without gradient; a NaN among the corners counts as 0.

    Raises:
        DataError: a region of an image that is not in the batch.
    """
    rois = rois.detach().reshape(-1, 5)
    corners = torch.nan_to_num(rois[:, 1:], nan=0.0).clamp(-LARGEST_CORNER, LARGEST_CORNER)
    image = rois[:, 0]
    wrong = ~((image >= 0) & (image < images))
    if wrong.any():
        raise DataError(
            f"region {int(wrong.nonzero()[0])} is of image {float(image[wrong][0]):g}, but the"
            f" batch has {images} (0 to {images - 1})."
        )
    return torch.cat([image[:, None], corners], 1)


class _RegionLayer(Layer):
    """The options that ROIPooling and ROIAlign share.

    Attributes:
        pooled: the number of bins, down and across.
        scale: cells of the features in a pixel of the image, down and across.
    """

    pooled_h: int = option()
    pooled_w: int = option()
    spatial_scale: float = option(positive)
    pad_ratio: float = option(not_negative)
    pooled_size: int | None = option(positive)
    spatial_scale_h: float | None = option(positive)
    spatial_scale_w: float | None = option(positive)

    def setup(self, x: Shape, rois: Shape) -> None:
        size = self.pooled_size or 0
        self.pooled = (self.pooled_h or size, self.pooled_w or size)
        if 0 in self.pooled:
            raise NetError("pooled_h and pooled_w must be > 0.")
        self.scale: CellsPerPixel = (
            self.spatial_scale_h or self.spatial_scale,
            self.spatial_scale_w or self.spatial_scale,
        )
        if not all(map(isfinite, self.scale)):
            raise NetError(f"spatial_scale must be finite, got {self.scale[0]:g}.")


@layer(
    "ROIPooling",
    bottoms=2,
    tops=1,
    message="roi_pooling_param",
    fixed_bottoms=(1,),
    fork="Faster R-CNN",
)
class ROIPooling(_RegionLayer):
    """Max pooling of each region to the same number of bins.

    Corners are multiplied by the scale and rounded (a half away from zero); the region from the
    first to the second corner, both included, is at least one cell high and wide. Bin k of an
    axis reaches from floor(k size / bins) to ceil((k + 1) size / bins), so neighbors may share a
    cell. An empty bin gives 0.

    Bottoms: features (N, C, H, W); regions (R, 5) of image index and corners x1, y1, x2, y2 in
    pixels of the image (no gradient). Top: (R, C, pooled_h, pooled_w). Of equal values the first
    gets the gradient. Message: roi_pooling_param (pooled_size stands for both; spatial_scale_h
    and spatial_scale_w for spatial_scale; MS-CNN's pad_ratio enlarges a region by that share of
    its size on each side). Girshick, 2015 (Fast R-CNN).

    Errors: no pooled_h and pooled_w; regions that are not R 5; a region of an image that is not
    in the batch.
    """

    def top_shapes(self, x: Shape, rois: Shape) -> list[Shape]:
        check_regions(x, rois)
        return [(rois[0], x[1], *self.pooled)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        rois = clean_regions(rois, len(x))
        return max_pool(x, rois, self.pooled, self.scale, self.pad_ratio)


@layer(
    "ROIAlign",
    bottoms=2,
    tops=1,
    message="roi_pooling_param",
    other_messages=("roi_align_param",),
    fixed_bottoms=(1,),
    fork="MS-CNN",
)
class ROIAlign(_RegionLayer):
    """Bilinear values of each region, without rounding its corners.

    With roi_pooling_param, as in MS-CNN and Cascade R-CNN: the corners of pooled_h x pooled_w bins
    are sampled, so the top has one row and column more; their nets take the mean of the four
    corners of each bin with a Pooling layer (AVE, kernel_size 2, stride 1). Half a cell is
    subtracted from scaled coordinates; a corner outside of the map and a region without extent
    give 0. With roi_align_param, as in ncnn: the mean of each bin over ceil(height) x ceil(width)
    points inside of it, nothing subtracted, a region at least one cell high and wide. If
    roi_align_param has a sampling_ratio, as in Detectron and Cambricon: the mean over
    sampling_ratio x sampling_ratio points of the whole bin (0 or less: as many as its size in
    cells, rounded up), of which those more than one cell outside of the map count as 0.

    Bottoms: features (N, C, H, W); regions (R, 5) of image index and corners x1, y1, x2, y2 in
    pixels of the image (no gradient). Top: (R, C, pooled_h + 1, pooled_w + 1), or with
    roi_align_param (R, C, pooled_h, pooled_w). He et al., 2017; Cai and Vasconcelos, 2018.

    Errors: no pooled_h and pooled_w; regions that are not R 5; a region of an image that is not
    in the batch.
    """

    sampling_ratio: int | None = option(of="roi_align_param")

    def setup(self, x: Shape, rois: Shape) -> None:
        super().setup(x, rois)
        self.at_corners = not self.config.HasField("roi_align_param")

    def top_shapes(self, x: Shape, rois: Shape) -> list[Shape]:
        check_regions(x, rois)
        extra = int(self.at_corners)
        return [(rois[0], x[1], self.pooled[0] + extra, self.pooled[1] + extra)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        rois = clean_regions(rois, len(x))
        if self.at_corners:
            return align_grid(x, rois, self.pooled, self.scale, self.pad_ratio)
        if self.sampling_ratio is not None:
            return align_samples(x, rois, self.pooled, self.scale, self.sampling_ratio)
        return align_bins(x, rois, self.pooled, self.scale)


@layer("PSROIPooling", bottoms=2, tops=1, fixed_bottoms=(1,), fork="R-FCN")
class PSROIPooling(Layer):
    """Mean pooling of each region in which each bin has its own channels.

    Bin (i, j) of output channel c is the mean of channel (c group_size + i) group_size + j over
    the bin, 0 if it is empty. Corners are rounded in the image, one is added to the second, then
    they are scaled; a region is at least 0.1 cells high and wide.

    Bottoms: features (N, output_dim group_size^2, H, W); regions (R, 5) of image index and corners
    x1, y1, x2, y2 in pixels of the image (no gradient). Top: (R, output_dim, group_size,
    group_size). Message: psroi_pooling_param. Dai et al., 2016 (R-FCN).

    Errors: another number of channels; regions that are not R 5; a region of an image that is not
    in the batch.
    """

    spatial_scale: float = option(positive, required=True)
    output_dim: int = option(positive, required=True)
    group_size: int = option(positive, required=True)

    def top_shapes(self, x: Shape, rois: Shape) -> list[Shape]:
        check_regions(x, rois)
        wanted = self.output_dim * self.group_size**2
        if x[1] != wanted:
            raise NetError(
                "input channel number does not match layer parameters: output_dim"
                f" {self.output_dim} and group_size {self.group_size} need {wanted} channels, got"
                f" {x[1]}."
            )
        return [(rois[0], self.output_dim, self.group_size, self.group_size)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        rois = clean_regions(rois, len(x))
        scale = (self.spatial_scale, self.spatial_scale)
        return position_sensitive_pool(x, rois, self.output_dim, self.group_size, scale)
