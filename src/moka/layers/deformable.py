"""Convolutions whose kernels look at places that another blob moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec
from moka.layers.conv import DRAWN, Convolution
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.sampling import bilinear
from moka.types import Shape

AXES = 2


class _Deformable(Convolution):
    """Base of both: what is the same whatever the offsets mean outside of the image."""

    deformable_group: int = option(positive)

    def setup(self, x: Shape, *others: Shape) -> None:
        super().setup(x)
        if len(x) != AXES + 2 or self.channel_axis != 1:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        x, *moves = bottom_shapes
        (top,) = super().top_shapes(x)
        if x[1] % self.deformable_group:
            raise NetError(
                f"channels must be a multiple of deformable_group {self.deformable_group}, got"
                f" {x[1]}."
            )
        places = self.deformable_group * prod(w.kernel for w in self.windows)
        for shape, each in zip(moves, (2, 1), strict=False):
            wanted = (x[0], places * each, *top[2:])
            if shape != wanted:
                what = "offsets" if each == 2 else "a mask"
                raise NetError(f"these kernels need {what} of shape {wanted}, got {shape}.")
        return [top]

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        return super().blob_specs(bottom_shapes[0])

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self._uses(tops) * self.weights_unseen()[0].numel()

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        x, offsets, *masks = bottoms
        n, c, *_ = x.shape
        groups, out = self.deformable_group, offsets.shape[2:]
        places = prod(w.kernel for w in self.windows)
        rows, columns = self._places(x, offsets.reshape(n * groups, places, 2, *out))
        images = x.reshape(n * groups, c // groups, *x.shape[2:])
        values = self._sample(images, rows, columns)
        values = values.reshape(n, groups, c // groups, places, *out)
        for mask in masks:
            values = values * mask.reshape(n, groups, 1, places, *out)
        weight, *bias = self.blobs
        inputs = c // self.group * places
        y = weight.reshape(self.group, -1, inputs) @ values.reshape(
            n, self.group, inputs, out.numel()
        )
        y = y.reshape(n, self.num_output, *out)
        return [y + bias[0].reshape(-1, 1, 1) if bias else y]

    def _places(self, x: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns (M, K h, w) that the kernel's K places look at, in pixels.

        Args:
            moved: offsets (M, K, 2, h, w) for each group of channels of each item.
        """
        vertical, horizontal = self.windows
        steps = [
            torch.arange(size, device=x.device, dtype=x.dtype) * window.stride - window.pad
            for size, window in zip(moved.shape[3:], self.windows, strict=True)
        ]
        inner = [
            torch.arange(window.kernel, device=x.device, dtype=x.dtype) * window.dilation
            for window in self.windows
        ]
        k_rows = inner[0].repeat_interleave(horizontal.kernel)[:, None, None]
        k_columns = inner[1].repeat(vertical.kernel)[:, None, None]
        rows = moved[:, :, 0] + k_rows + steps[0][:, None]
        columns = moved[:, :, 1] + k_columns + steps[1]
        return rows.flatten(1, 2), columns.flatten(1, 2)

    def _sample(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        raise NotImplementedError


@layer(
    "DeformableConvolution",
    bottoms=2,
    tops=1,
    message="deformable_convolution_param",
    other_messages=("convolution_param",),
    coordinates="window",
    fork="Deformable ConvNets",
    drawn=DRAWN,
)
class DeformableConvolution(_Deformable):
    """Convolution whose kernel is moved apart: y[m](p) = b[m] + sum over c, k of w[m, c, k]
    x[c](p + k + offset[k](p)).

    Between pixels x is interpolated bilinearly; beyond the middle of the last row or column it
    goes on with them, and a place with a coordinate below 0, or at or above the image's size, has
    the value 0.

    Bottoms: x (N, C, H, W); offsets (N, 2 K deformable_group, h, w), for each place k of the K of
    the kernel a row and a column offset in pixels, for each group of channels. Top: (N,
    num_output, h, w), sized as Convolution's. Blobs: those of Convolution. Message:
    deformable_convolution_param, with Convolution's options. The gradient reaches both bottoms.
    Dai et al., 2017.

    Errors: those of Convolution; offsets of another shape.
    """

    def _sample(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        height, width = images.shape[2:]
        inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
        rows, columns = rows.where(inside, 0), columns.where(inside, 0)
        return bilinear(images, rows, columns, repeat_edge=True) * inside[:, None]


@layer(
    "ModulatedDeformableConvolution",
    bottoms=3,
    tops=1,
    message="modulated_deformable_convolution_param",
    other_messages=("convolution_param",),
    coordinates="window",
    fork="Deformable ConvNets",
    drawn=DRAWN,
)
class ModulatedDeformableConvolution(_Deformable):
    """Deformable convolution, version 2: each place of the kernel has a factor, too.

    y[m](p) = b[m] + sum over c, k of w[m, c, k] mask[k](p) x[c](p + k + offset[k](p)). Between
    pixels x is interpolated bilinearly; outside of the image there are zeros.

    Bottoms: x and offsets as in DeformableConvolution; mask (N, K deformable_group, h, w). Top,
    blobs and options as there, in modulated_deformable_convolution_param. The gradient reaches
    all bottoms. Zhu et al., 2018.

    Errors: those of DeformableConvolution; a mask of another shape.
    """

    def _sample(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return bilinear(images, rows, columns)
