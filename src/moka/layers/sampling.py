"""Layers that sample images at places between pixels, and the sampling itself."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes
from moka.types import Shape


def bilinear(x: Tensor, rows: Tensor, columns: Tensor, *, repeat_edge: bool = False) -> Tensor:
    """Values of images x (N, C, H, W) at places (N, h, w), in pixels, with bilinear weights.

    Args:
        repeat_edge: beyond the last row and column the image goes on with them; False: outside of
            the image everything is 0.

    Returns:
        (N, C, h, w); the gradient reaches the images and the places.
    """
    n, c, height, width = x.shape
    h, w = rows.shape[1:]
    flat = x.reshape(n, c, height * width)
    top, left = rows.detach().floor(), columns.detach().floor()
    down, right = rows - top, columns - left
    y = x.new_zeros(())
    for dy, weight_y in ((0, 1 - down), (1, down)):
        for dx, weight_x in ((0, 1 - right), (1, right)):
            row, column = (top + dy).long(), (left + dx).long()
            weight = weight_y * weight_x
            if repeat_edge:
                row, column = row.clamp_max(height - 1), column.clamp_max(width - 1)
            else:
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                weight = weight * inside
                row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
            index = (row * width + column).reshape(n, 1, h * w).expand(n, c, h * w)
            y = y + flat.gather(2, index).reshape(n, c, h, w) * weight[:, None]
    return y


THETA = ("theta_1_1", "theta_1_2", "theta_1_3", "theta_2_1", "theta_2_2", "theta_2_3")


@layer("SpatialTransformer", bottoms=2, tops=1, message="st_param", fork="Spatial Transformer")
class SpatialTransformer(Layer):
    """Samples images at the places of a grid that an affine map moves.

    The pixel (i, j) of the top stands for p = (2 i / output_H - 1, 2 j / output_W - 1, 1), rows
    first. The map's matrix theta (2 x 3) takes it to (u, v) = theta p, and the top's value is that
    of the image at row (u + 1) / 2 * H and column (v + 1) / 2 * W, with bilinear weights and 0
    outside.

    Bottoms: images (N, C, H, W); theta (N, 6), or less: entries that `theta_1_1` to `theta_2_3`
    give are left out there. Top: (N, C, output_H, output_W), by default the images' size.
    Message: st_param; `to_compute_dU: false`: no gradient reaches the images. The gradient reaches
    theta. Jaderberg et al., 2015.

    Errors: another transform_type than affine, another sampler_type than bilinear; a number of
    entries of theta that, with the given ones, is not six.
    """

    transform_type: str = option()
    sampler_type: str = option()
    output_H: int | None = option(positive)  # noqa: N815
    output_W: int | None = option(positive)  # noqa: N815
    to_compute_dU: bool = option()  # noqa: N815
    theta_1_1: float | None = option()
    theta_1_2: float | None = option()
    theta_1_3: float | None = option()
    theta_2_1: float | None = option()
    theta_2_2: float | None = option()
    theta_2_3: float | None = option()

    def setup(self, x: Shape, theta: Shape) -> None:
        for name, known in (("transform_type", "affine"), ("sampler_type", "bilinear")):
            if getattr(self, name) != known:
                raise NetError(f'{name} must be {known}, got "{getattr(self, name)}".')

    def top_shapes(self, x: Shape, theta: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        given = sum(getattr(self, name) is not None for name in THETA)
        if not theta or theta[0] != x[0] or prod(theta[1:]) + given != 6:
            raise NetError(
                f"theta must be (N, {6 - given}) for N = {x[0]} images: six entries less the"
                f" {given} that are given, got shape {theta}."
            )
        return [(*x[:2], self.output_H or x[2], self.output_W or x[3])]

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        height, width = x.shape[2:]
        out_height, out_width = self.output_H or height, self.output_W or width
        u, v = (
            affine_places(entries, out_height, out_width)
            for entries in self._matrix(as_rows(theta))
        )
        image = x if self.to_compute_dU else x.detach()
        return bilinear(image, (u + 1) / 2 * height, (v + 1) / 2 * width)

    def _matrix(self, theta: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The two rows of the matrix, each entry (N,)."""
        free = iter(theta.unbind(1))
        given = (getattr(self, name) for name in THETA)
        entries = [
            next(free) if value is None else theta.new_full((len(theta),), value) for value in given
        ]
        return tuple(entries[:3]), tuple(entries[3:])


@layer("Transformer", bottoms=2, tops=1, fork="caffe-windows")
class Transformer(Layer):
    """Samples images at the places of a grid that an affine map moves, as SpatialTransformer, but
    a place outside of the image has the value 0, however near it lies.

    Bottoms: images (N, C, H, W); theta (N, 6), a 2 x 3 matrix that takes (2 i / H - 1, 2 j / W - 1,
    1), rows first, to (u, v); the value there is that of the image at row (u + 1) / 2 * H and
    column (v + 1) / 2 * W, if the row is in [0, H - 1] and the column in [0, W - 1]. Top: the
    images' shape. No message. The gradient reaches both. Jaderberg et al., 2015.

    Errors: a theta without six entries for each image.
    """

    def top_shapes(self, x: Shape, theta: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        if not theta or theta[0] != x[0] or prod(theta[1:]) != 6:
            raise NetError(f"theta must be (N, 6) for N = {x[0]} images, got shape {theta}.")
        return [x]

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        height, width = x.shape[2:]
        first, second = as_rows(theta).reshape(-1, 2, 3).unbind(1)
        rows, columns = (affine_places(part.T, height, width) for part in (first, second))
        rows, columns = (rows + 1) / 2 * height, (columns + 1) / 2 * width
        inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
        return bilinear(x, rows, columns) * inside[:, None]


def affine_places(entries: Sequence[Tensor] | Tensor, height: int, width: int) -> Tensor:
    """a r + b c + t (N, height, width), r and c the rows and columns of a grid from -1 to 1.

    Args:
        entries: a, b and t, (N,) each.
    """
    a, b, t = (entry[:, None, None] for entry in entries)
    rows = torch.arange(height, device=a.device, dtype=a.dtype) / height * 2 - 1
    columns = torch.arange(width, device=a.device, dtype=a.dtype) / width * 2 - 1
    return a * rows[:, None] + b * columns + t
