"""Layers over points of an image, as face landmarks: maps around them, and windows."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes, shape_text
from moka.types import Shape

LEAST = 1e-4  # of a hotspot's density; less counts as 0


def check_points(points: Shape, items: int | None = None) -> int:
    """The number of points of a blob (N, 2 P, ...).

    Raises:
        NetError: another shape.
    """
    count = points[1] if len(points) > 1 else 1
    for size in points[2:]:
        count *= size
    if len(points) < 2 or count % 2 or (items is not None and points[0] != items):
        of = "" if items is None else f" for each of {items} items"
        raise NetError(
            f"points are a blob (N, 2 P), x and y of each{of}, got shape {shape_text(points)}."
        )
    return count // 2


@layer(
    "Hotspot",
    bottoms=(1, 2),
    tops=1,
    message="hotspot_param",
    fork="caffe-windows",
    differentiable=False,
)
class Hotspot(Layer):
    """A Gaussian map around each point: y[n, p, i, j] = exp(-d^2 / (2 s^2)) / (2 pi s^2), where d
    is the distance of pixel (i, j) from the point and s = gaussian_std; less than 1e-4 is 0.

    A point (x, y) of an image of data_width x data_height pixels lies at column
    (x / data_width + c) W and row (y / data_height + c) H, c = 0.5 with mean_removed (coordinates
    from the middle, the default), else 0.

    Bottoms: points (N, 2 P), x and y of each; optionally a blob (N, C, H, W) whose size the maps
    have if output_height and output_width are not given. Top: (N, P, H, W). No gradient. Message:
    hotspot_param.

    Errors: an odd number of coordinates; no data_height or data_width; no size.
    """

    gaussian_std: float = option(positive)
    output_height: int = option()
    output_width: int = option()
    data_height: int = option(positive)
    data_width: int = option(positive)
    mean_removed: bool = option()

    def top_shapes(self, points: Shape, like: Shape | None = None) -> list[Shape]:
        size = (self.output_height, self.output_width)
        if not all(size):
            if like is None or len(like) != 4:
                raise NetError(
                    "needs output_height and output_width, or a second bottom (N, C, H, W)."
                )
            size = (like[2], like[3])
        return [(points[0], check_points(points), *size)]

    def forward(self, points: Tensor, like: Tensor | None = None) -> Tensor:
        shape = None if like is None else tuple(like.shape)
        n, count, height, width = self.top_shapes(tuple(points.shape), shape)[0]
        middle = 0.5 if self.mean_removed else 0.0
        x, y = points.detach().reshape(n, count, 2).unbind(2)
        x = (x / self.data_width + middle) * width
        y = (y / self.data_height + middle) * height
        rows, columns = (torch.arange(size, device=points.device) for size in (height, width))
        squares = [
            (place[..., None] - index).square() for place, index in ((y, rows), (x, columns))
        ]
        variance = self.gaussian_std**2
        distance = squares[0][..., :, None] + squares[1][..., None, :]
        density = (distance / (-2 * variance)).exp() / (2 * pi * variance)
        return density.where(density > LEAST, 0)


@layer(
    "SubRegion",
    bottoms=(2, 3),
    tops=(1, 3),
    message="sub_region_param",
    fork="caffe-windows",
    fixed_bottoms=(1, 2),
)
class SubRegion(Layer):
    """Cut a window of fixed size around each point out of images.

    A point (x, y), in pixels from the middle of an image of data_width x data_height, lies at
    column (x / data_width + 0.5) W and row (y / data_height + 0.5) H of the bottom. Its window
    begins at floor(column - region_width / 2), the half rounded down, and so for rows; outside of
    the image it is 0.

    Bottoms: images (N, C, H, W); points (N, 2 P), x and y of each; for three tops the true points,
    of the same shape. Points take no gradient. Tops: with as_dim 1 (the default) the windows (N,
    P C, region_height, region_width), with 0 (P N, C, ...), all items of a point together;
    optionally the true points as seen from the windows' middles, and those middles, both (N, 2 P),
    in pixels of the image from its corner. Message: sub_region_param.

    Errors: a size that is missing; an odd number of coordinates; two tops; three tops without true
    points.
    """

    region_height: int = option(positive, required=True)
    region_width: int = option(positive, required=True)
    data_height: int = option(positive, required=True)
    data_width: int = option(positive, required=True)
    as_dim: int = option()

    def top_shapes(self, x: Shape, points: Shape, true: Shape | None = None) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got shape {shape_text(x)}.")
        refuse_empty_axes(x, first=2)
        count = check_points(points, x[0])
        n, c = (x[0] * count, x[1]) if self.as_dim == 0 else (x[0], x[1] * count)
        windows = (n, c, self.region_height, self.region_width)
        if self.top_count == 1:
            return [windows]
        if true is None or check_points(true, x[0]) != count:
            raise NetError(f"three tops need {count} true points for each item as third bottom.")
        return [windows, points, points]

    def forward(self, x: Tensor, points: Tensor, true: Tensor | None = None) -> list[Tensor]:
        n, c, height, width = x.shape
        size = points.new_tensor([width, height])
        image = points.new_tensor([self.data_width, self.data_height])
        region = (self.region_width, self.region_height)
        half = points.new_tensor([r // 2 for r in region])
        first = ((self._pairs(points) / image + 0.5) * size - half).floor()
        left, up = first.long().unbind(2)
        rows = up[..., None] + torch.arange(self.region_height, device=x.device)
        columns = left[..., None] + torch.arange(self.region_width, device=x.device)
        inside = ((rows >= 0) & (rows < height))[..., :, None]
        inside = inside & ((columns >= 0) & (columns < width))[..., None, :]  # (N, P, h, w)
        index = rows.clamp(0, height - 1)[..., :, None] * width
        index = index + columns.clamp(0, width - 1)[..., None, :]
        count, area = first.shape[1], self.region_height * self.region_width
        flat = index.reshape(n, 1, count * area).expand(n, c, count * area)
        windows = x.reshape(n, c, height * width).gather(2, flat)
        windows = windows.reshape(n, c, count, *index.shape[2:]) * inside[:, None]
        order = (2, 0, 1, 3, 4) if self.as_dim == 0 else (0, 2, 1, 3, 4)
        shapes = self.top_shapes(
            tuple(x.shape), tuple(points.shape), None if true is None else tuple(true.shape)
        )
        tops = [windows.permute(order).reshape(shapes[0])]
        if true is not None and self.top_count == 3:
            middle = (first + points.new_tensor(region) / 2 + 0.5) / size * image
            corner = points.new_tensor([self.data_width // 2, self.data_height // 2])
            tops += [self._pairs(true) + corner - middle, middle]
        return [tops[0], *(top.detach().reshape(points.shape) for top in tops[1:])]

    @staticmethod
    def _pairs(points: Tensor) -> Tensor:
        """(N, P, 2)."""
        rows = as_rows(points.detach())
        return rows.reshape(len(rows), rows.shape[1] // 2, 2)
