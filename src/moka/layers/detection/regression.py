"""Box regression as MS-CNN and Cascade R-CNN define it: means, spreads and bounds of the deltas."""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.boxes import corners
from moka.layers.options import option, positive


class RegressionLayer(Layer):
    """Base of layers that read bbox_reg_param.

    bbox_mean and bbox_std, four of each or none: deltas are stored as (delta - mean) / std.
    cls_aware false: all classes share one set of deltas.
    """

    bbox_mean: tuple[float, ...] = option(of="bbox_reg_param")
    bbox_std: tuple[float, ...] = option(positive, of="bbox_reg_param")
    cls_aware: bool = option(of="bbox_reg_param")

    def scale_of_deltas(self) -> DeltaStatistics:
        """Means and spreads, 0 and 1 unless both are given.

        Raises:
            NetError: not four of each.
        """
        if not self.bbox_mean or not self.bbox_std:
            return DeltaStatistics((0.0,) * 4, (1.0,) * 4)
        if len(self.bbox_mean) != 4 or len(self.bbox_std) != 4:
            raise NetError(
                "bbox_mean and bbox_std must be given 4 times each, got"
                f" {len(self.bbox_mean)} and {len(self.bbox_std)} values."
            )
        return DeltaStatistics(self.bbox_mean, self.bbox_std)


class DeltaStatistics(NamedTuple):
    """Means and spreads of the four deltas."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def restore(self, deltas: Tensor, axis: int = -1) -> Tensor:
        """Deltas from normalized ones: d * std + mean. The four deltas lie along an axis."""
        return deltas * self._along(self.std, deltas, axis) + self._along(self.mean, deltas, axis)

    def store(self, deltas: Tensor, axis: int = -1) -> Tensor:
        """Normalized deltas, which a net learns: (d - mean) / std."""
        centered = deltas - self._along(self.mean, deltas, axis)
        return centered / self._along(self.std, deltas, axis)

    @staticmethod
    def _along(values: tuple[float, ...], like: Tensor, axis: int) -> Tensor:
        shape = [1] * like.dim()
        shape[axis] = 4
        return like.new_tensor(values).view(shape)


class Bounds(NamedTuple):
    """Limits of deltas: of the center by 1 / xyr of the field, of the size by the factor whr."""

    xyr: float
    whr: float

    def clamp(self, deltas: Tensor, axis: int = 1) -> Tensor:
        """Deltas within the limits."""
        center, size = deltas.narrow(axis, 0, 2), deltas.narrow(axis, 2, 2)
        center = center.clamp(-1 / self.xyr, 1 / self.xyr)
        return torch.cat([center, size.clamp(-log(self.whr), log(self.whr))], axis)

    def stored(self, scale: DeltaStatistics) -> tuple[tuple[float, float], tuple[float, float]]:
        """The lowest and highest stored delta of centers and of sizes.

        As in the original, one mean (that of the two) and one spread (their geometric mean) stand
        for both.
        """
        found = []
        for k, limit in ((0, 1 / self.xyr), (2, log(self.whr))):
            mean = (scale.mean[k] + scale.mean[k + 1]) / 2
            spread = (scale.std[k] * scale.std[k + 1]) ** 0.5
            found.append(((-limit - mean) / spread, (limit - mean) / spread))
        return found[0], found[1]


def limited(deltas: Tensor, limits: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """Stored deltas (N, 4, H, W) within the limits of centers and sizes; the gradient knows none,
    as in the original."""
    given = deltas.detach()
    value = torch.cat([given[:, :2].clamp(*limits[0]), given[:, 2:].clamp(*limits[1])], 1)
    return deltas + (value - given)


def field_centers(height: int, width: int, stride: float, like: Tensor) -> Tensor:
    """Centers (2, H, W), x then y, in pixels, of the fields of a map."""
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * stride
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * stride
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def field_boxes(deltas: Tensor, fields: Tensor, stride: float) -> tuple[Tensor, Tensor]:
    """Centers and sizes, each (N, 2, H, W), that deltas (N, 4, H, W) make of the fields of a map.

    Args:
        fields: widths and heights (N, 2) of the fields in pixels.
    """
    size = fields[:, :, None, None]
    centers = field_centers(deltas.shape[2], deltas.shape[3], stride, deltas)
    return deltas[:, :2] * size + centers, deltas[:, 2:].exp() * size


def region_boxes(deltas: Tensor, rois: Tensor) -> Tensor:
    """Boxes (R, K, 4) in pixels that deltas (R, K, 4) make of regions (R, 4), both corners
    included: a region w wide becomes a box exp(delta) w wide."""
    size = (rois[:, 2:] - rois[:, :2] + 1)[:, None]
    center = ((rois[:, 2:] + rois[:, :2]) / 2)[:, None]
    moved = deltas[..., :2] * size + center
    wide = deltas[..., 2:].exp() * size
    return corners(moved, wide - 1)


def boxes_of(corner: Tensor, size: Tensor, axis: int = -1) -> Tensor:
    """Boxes in pixels from first corners and sizes, both corners included; x and y lie along an
    axis."""
    return torch.cat([corner, corner + size - 1], axis)
