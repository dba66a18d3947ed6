"""Layers that bring images to another size by interpolation."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, refuse_in_place
from moka.layers.grid import apply_grid, centered_weights, nearest_pixels, pick_grid, require_images
from moka.layers.options import Check, not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import times
from moka.types import HeightWidth, Shape

not_positive = Check(lambda v: v <= 0, "<= 0")


def aligned_bilinear(x: Tensor, size: HeightWidth) -> Tensor:
    """x (N, C, H, W) at another size, bilinear, corner pixels in place."""
    if tuple(x.shape[2:]) == size:
        return x.clone()
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


@layer("Interp", bottoms=(1, 2), tops=1, fixed_bottoms=(1,), fork="DeepLab, PSPNet and ICNet")
class Interp(Layer):
    """Resize images by bilinear interpolation that keeps their corner pixels in place.

    Output pixel i lies at i (in - 1) / (out - 1) of the input. Bottoms: images (N, C, H, W);
    optionally a blob whose height and width are the size, which takes no gradient. Top: (N, C, H',
    W'). Message: interp_param. First `pad_beg` and `pad_end`, both <= 0, cut so many rows and
    columns off at the beginning and at the end. Then, the first that is given decides:
    `shrink_factor` s makes (in - 1) / s + 1, rounded down; `zoom_factor` z makes in + (in - 1)
    (z - 1); `height` and `width`; both factors shrink first and then zoom the size; Synopsys'
    `full_zoom_factor` makes in times the factor.

    Errors: no size, or one without pixels; an image that is cut away; bottoms that are not 4-D.
    """

    height: int = option(not_negative)
    width: int = option(not_negative)
    zoom_factor: int | None = option(positive, unset_is_none=True)
    shrink_factor: int | None = option(positive, unset_is_none=True)
    pad_beg: int = option(not_positive)
    pad_end: int = option(not_positive)
    full_zoom_factor: int | None = option(positive)

    def top_shapes(self, x: Shape, reference: Shape | None = None) -> list[Shape]:
        require_images(x, *((reference,) if reference else ()))
        cut = (x[2] + self.pad_beg + self.pad_end, x[3] + self.pad_beg + self.pad_end)
        if min(cut) < 1:
            raise NetError(f"pad_beg and pad_end leave nothing of an image of {x[2:]}.")
        return [(*x[:2], *(reference[2:] if reference else self._size(cut)))]

    def _size(self, size: HeightWidth) -> HeightWidth:
        shrink, zoom = self.shrink_factor, self.zoom_factor
        if (shrink is None) == (zoom is None) and self.height and self.width:
            return (self.height, self.width)
        if shrink is None and zoom is None:
            if self.full_zoom_factor is not None:
                return (size[0] * self.full_zoom_factor, size[1] * self.full_zoom_factor)
            raise NetError("needs height and width, zoom_factor or shrink_factor.")
        height, width = (self._zoomed((n - 1) // (shrink or 1) + 1, zoom or 1) for n in size)
        return (height, width)

    @staticmethod
    def _zoomed(size: int, factor: int) -> int:
        return size + (size - 1) * (factor - 1)

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        first, last = -self.pad_beg, self.pad_end
        cut = x[:, :, first : x.shape[2] + last, first : x.shape[3] + last]
        top = self.top_shapes(tuple(x.shape), None if reference is None else reference.shape)[0]
        return aligned_bilinear(cut, (top[2], top[3]))


@layer("Accum", bottoms=(1, None), tops=1, fork="FlowNet2")
class Accum(Layer):
    """Bring images to one size, bilinear with corner pixels in place, and join their channels.

    Bottoms: images (N, C_k, H_k, W_k). Top: (N, sum of C_k, H', W'). Message: accum_param. The size
    is the largest height and width of the bottoms, or top_height and top_width if both are larger
    than those; with `size_divisible_by` d the multiples of d that the largest reach, if both are
    larger. With `have_reference: true` the last bottom only gives the size.

    Errors: bottoms with other numbers of items; have_reference with one bottom; bottoms that are
    not 4-D.
    """

    top_height: int = option()
    top_width: int = option()
    size_divisible_by: int | None = option(positive, unset_is_none=True)
    have_reference: bool = option()

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        require_images(*bottom_shapes)
        joined = bottom_shapes[: -1 if self.have_reference else None]
        if not joined:
            raise NetError("have_reference needs at least two bottoms.")
        for x in joined:
            if x[0] != joined[0][0]:
                raise NetError(f"bottoms differ in their number of items: {joined[0]} and {x}.")
        size = bottom_shapes[-1][2:] if self.have_reference else self._size(joined)
        return [(joined[0][0], sum(x[1] for x in joined), *size)]

    def _size(self, shapes: tuple[Shape, ...]) -> Shape:
        largest = (max(x[2] for x in shapes), max(x[3] for x in shapes))
        wanted = (self.top_height, self.top_width)
        if d := self.size_divisible_by:
            wanted = (ceil(largest[0] / d) * d, ceil(largest[1] / d) * d)
        return wanted if wanted[0] > largest[0] and wanted[1] > largest[1] else largest

    def forward(self, *bottoms: Tensor) -> Tensor:
        top = self.top_shapes(*(tuple(x.shape) for x in bottoms))[0]
        joined = bottoms[: -1 if self.have_reference else None]
        return torch.cat([aligned_bilinear(x, (top[2], top[3])) for x in joined], 1)


@layer("Resample", bottoms=(1, 2), tops=1, fixed_bottoms=(1,), fork="FlowNet2")
class Resample(Layer):
    """Resize images by interpolation between the centers of pixels.

    Output pixel i lies at i f + g / 2 - 1/2 of the input, with the scale f = in / out of its axis
    and g that of the other one, as in FlowNet2: where both axes have one scale that is (i + 1/2) f
    - 1/2. Bottoms: images (N, C, H, W); optionally a blob whose height and width are the size,
    which takes no gradient. Top: (N, C, H', W') with `height` and `width`, or without them with
    in * factor, rounded down. Message: resample_param. `type`: NEAREST (of two nearest pixels the
    second, of pixels beyond the image the last), LINEAR or CUBIC (a = -1/2). If an axis shrinks the
    kernel is in / out wide along both (so narrower along one that grows), unless `antialias:
    false`. Weights of pixels beyond the image are left out.

    FlowNet2 has no gradient; here the gradient is exact.

    Errors: no size; the type AREA; bottoms that are not 4-D.
    """

    height: int | None = option(positive)
    width: int | None = option(positive)
    type: str = option()  # type: ignore[assignment]  # hides Module.type, which nobody calls
    antialias: bool = option()
    factor: float = option(positive)

    def setup(self, x: Shape, reference: Shape | None = None) -> None:
        if self.type == "AREA":
            raise NetError("the type AREA is not supported: give NEAREST, LINEAR or CUBIC.")
        if bool(self.height) != bool(self.width):
            raise NetError("give both height and width.")

    def top_shapes(self, x: Shape, reference: Shape | None = None) -> list[Shape]:
        require_images(x, *((reference,) if reference else ()))
        size = reference[2:] if reference else self._size(x)
        if min(size) < 1:
            raise NetError(f"makes an image without pixels, {size}, of {x[2:]}.")
        return [(*x[:2], *size)]

    def _size(self, x: Shape) -> Shape:
        if self.height and self.width:
            return (self.height, self.width)
        return (times(x[2], self.factor), times(x[3], self.factor))

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        top = self.top_shapes(tuple(x.shape), None if reference is None else reference.shape)[0]
        rows, columns = self.maps(tuple(x.shape[2:]), top[2:])
        return (pick_grid if self.type == "NEAREST" else apply_grid)(x, rows, columns)

    def maps(self, size: Shape, out: Shape) -> tuple[Tensor, Tensor]:
        """For the rows and for the columns of the top: the indices of their pixels with NEAREST,
        else the weights of all pixels."""
        firsts = [Fraction(n, 2 * m) for n, m in zip(size, out, strict=True)]
        axes = list(zip(size, out, reversed(firsts), strict=True))
        if self.type == "NEAREST":
            rows, columns = (nearest_pixels(*axis) for axis in axes)
            return rows, columns
        antialias = self.antialias and any(n > m for n, m, _ in axes)
        rows, columns = (
            centered_weights(n, m, self.type, antialias=antialias, first=first)
            for n, m, first in axes
        )
        return rows, columns


@layer("DeephiResize", bottoms=1, tops=1, fork="Xilinx")
class DeephiResize(Layer):
    """Resize images as OpenCV does, by interpolation between the centers of pixels or to the pixel
    before.

    BILINEAR (default): output pixel i lies at (i + 1/2) in / out - 1/2 of the input; beyond the
    centers of the outer pixels these are repeated. NEAREST: output pixel i is pixel i in / out,
    rounded down.

    Bottom: images (N, C, H, W). Top: (N, C, new_height, new_width), or (N, C, H scale_h, W
    scale_w), rounded down. Message: deephi_resize_param.

    Errors: neither both sizes nor both scales; an image without pixels; a bottom that is not 4-D.

    Xilinx's has no gradient; here it is exact.
    """

    new_height: int | None = option(positive)
    new_width: int | None = option(positive)
    scale_h: float | None = option(positive)
    scale_w: float | None = option(positive)
    resize_type: str = option()

    def setup(self, x: Shape) -> None:
        if bool(self.new_height) != bool(self.new_width):
            raise NetError("new_height and new_width should be set at the same time.")
        if bool(self.scale_h) != bool(self.scale_w):
            raise NetError("scale_h and scale_w should be set at the same time.")
        if not (self.new_height or self.scale_h):
            raise NetError("needs new_height and new_width, or scale_h and scale_w.")

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_images(x)
        height = self.new_height or times(x[2], self.scale_h or 1)
        width = self.new_width or times(x[3], self.scale_w or 1)
        if min(height, width) < 1:
            raise NetError(f"makes an image without pixels, {(height, width)}, of {x[2:]}.")
        return [(*x[:2], height, width)]

    def forward(self, x: Tensor) -> Tensor:
        axes = list(zip(x.shape[2:], self.top_shapes(tuple(x.shape))[0][2:], strict=True))
        if self.resize_type == "NEAREST":
            return pick_grid(x, *(pixels_before(n, m) for n, m in axes))
        return apply_grid(x, *(centered_weights(n, m, "LINEAR", antialias=False) for n, m in axes))


def pixels_before(size: int, out: int) -> Tensor:
    """Indices (out,) of the pixels of an axis that is brought from `size` to `out` pixels: i size /
    out, rounded down."""
    return torch.arange(out) * size // out


@layer("Downsample", bottoms=(1, 2), tops=1, differentiable=False, fork="FlowNet2")
class Downsample(Layer):
    """Shrink maps, such as a flow, by an average that leaves unknown values (NaN) out.

    Output pixel i lies at c = i (in - 1) / (out - 1) of the input; pixel j has the weight
    max(0, 1 - |j - c| (out - 1) / (in - 1)), and the weights of an axis multiply. The top is the
    weighted mean of the values that are not NaN, and NaN where NaN has more than half the weight of
    the others. Bottoms: maps (N, C, H, W); optionally a blob whose height and width are the size.
    Top: (N, C, top_height, top_width). No gradient. Message: downsample_param.

    Errors: no size; a size larger than the map, or of one pixel along an axis of several.
    """

    top_height: int = option()
    top_width: int = option()

    def top_shapes(self, x: Shape, reference: Shape | None = None) -> list[Shape]:
        require_images(x, *((reference,) if reference else ()))
        size = reference[2:] if reference else (self.top_height, self.top_width)
        for n, m in zip(x[2:], size, strict=True):
            if not (2 <= m <= n or m == n):
                raise NetError(
                    f"the size must be at least 2 and at most the map's, {x[2:]}, got {size}."
                )
        return [(*x[:2], *size)]

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        x = x.detach()
        top = self.top_shapes(tuple(x.shape), None if reference is None else reference.shape)[0]
        if top == tuple(x.shape):
            return x.clone()
        rows, columns = (shrinking(n, m) for n, m in zip(x.shape[2:], top[2:], strict=True))
        unknown = x.isnan()
        total = apply_grid(x.where(~unknown, 0), rows, columns)
        weight = apply_grid((~unknown).to(x.dtype), rows, columns)
        nan_weight = apply_grid(unknown.to(x.dtype), rows, columns)
        return torch.where(nan_weight > 0.5 * weight, torch.nan, total / weight)


@lru_cache(maxsize=256)
def shrinking(size: int, out: int) -> Tensor:
    """Weights (out, size) of a triangle as wide as the distance of two output pixels."""
    if size == out:
        return torch.eye(size)
    step = (size - 1) / (out - 1)
    at = torch.arange(out, dtype=torch.float64) * step
    return (1 - (at[:, None] - torch.arange(size)).abs() / step).clamp_min(0)


class _ToSize(Layer):
    """Base of the layers of Synopsys that resize images, with rows and columns where the order of
    axes says."""

    align_corners: bool = option()
    half_pixel_centers: bool = option()
    data_format: str = option()
    output_height: int | None = option(positive)
    output_width: int | None = option(positive)
    scale_height: float = option(positive)
    scale_width: float = option(positive)
    rules: ClassVar[tuple[str, ...]] = ("align_corners", "half_pixel_centers")

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)
        if self.data_format not in ("NHWC", "NCHW"):
            raise NetError(f"data_format must be NHWC or NCHW, got {self.data_format}.")
        given = [rule for rule in self.rules if getattr(self, rule)]
        if len(given) > 1:
            raise NetError(f"give either {given[0]} or {given[1]}, not both.")

    @property
    def first_axis(self) -> int:
        """The axis of rows; that of columns comes after it."""
        return 1 if self.data_format == "NHWC" else 2

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_images(x)
        k = self.first_axis
        height = self.output_height or times(x[k], self.scale_height)
        width = self.output_width or times(x[k + 1], self.scale_width)
        if min(height, width) < 1:
            raise NetError(f"makes an image without pixels, {(height, width)}, of {x[k : k + 2]}.")
        return [(*x[:k], height, width, *x[k + 2 :])]

    def maps(self, x: Shape) -> tuple[Tensor, Tensor]:
        """For the rows and for the columns of the top what `map_along` says."""
        k, top = self.first_axis, self.top_shapes(x)[0]
        rows, columns = (self.map_along(x[axis], top[axis]) for axis in (k, k + 1))
        return rows, columns

    def map_along(self, size: int, out: int) -> Tensor:
        """Where the pixels of an axis come from that is brought from `size` to `out` pixels."""
        raise NotImplementedError

    def places(self, size: int, out: int) -> Tensor:
        """Where output pixels lie in the input, without the shift of half pixels, in the single
        precision of the fork, whose rounding picks pixels."""
        corners = self.align_corners and out > 1
        scale = torch.tensor((size - 1) / (out - 1) if corners else size / out)
        shift = 0.5 if self.half_pixel_centers else 0.0
        return (torch.arange(out, dtype=torch.float32) + shift) * scale


@layer("ResizeNearestNeighbor", bottoms=1, tops=1, bfloat16="keeps", fork="Synopsys Caffe")
class ResizeNearestNeighbor(_ToSize):
    """Resize images as TensorFlow does, each pixel one of the bottom's.

    With s = in / out, output pixel i is pixel i s of the input, rounded down; with
    `half_pixel_centers` (i + 1/2) s, rounded down; with `align_corners` i (in - 1) / (out - 1),
    rounded to the nearest.

    Bottom, top, sizes and errors: as in ResizeBilinear. Message: resize_nearest_neighbor_param.

    Synopsys' layer has no gradient; here it is exact.
    """

    def map_along(self, size: int, out: int) -> Tensor:
        at = self.places(size, out).double()
        return (at + 0.5 if self.align_corners else at).floor().long().clamp_max(size - 1)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.maps(tuple(x.shape))
        k = self.first_axis
        return x.index_select(k, rows.to(x.device)).index_select(k + 1, columns.to(x.device))


@layer("ResizeBilinear", bottoms=1, tops=1, fork="Synopsys Caffe")
class ResizeBilinear(_ToSize):
    """Resize images as TensorFlow does, by bilinear interpolation.

    With s = in / out, output pixel i lies at i s of the input; with `align_corners` at i (in - 1) /
    (out - 1); with `half_pixel_centers` or `pytorch_half_pixel` at (i + 1/2) s - 1/2. Beyond the
    outer pixels these are repeated.

    Bottom: images in the order of axes that `data_format` says, NHWC (default) or NCHW. Top: the
    same with output_height and output_width pixels, where one is not given with size * scale_height
    or scale_width, rounded down. Message: resize_bilinear_param.

    Errors: an image without pixels; two rules for the places of pixels; a bottom that is not 4-D;
    another data_format, among them NCHWD (output_depth, scale_depth); in-place use.

    Synopsys' layer has no gradient; here it is exact. For an output of one pixel pytorch_half_pixel
    takes the first pixel of the input.
    """

    pytorch_half_pixel: bool = option()
    output_depth: int | None = option()
    scale_depth: float = option()
    rules: ClassVar[tuple[str, ...]] = (*_ToSize.rules, "pytorch_half_pixel")

    def map_along(self, size: int, out: int) -> Tensor:
        steps = torch.arange(out, dtype=torch.float64)
        if self.align_corners and out > 1:
            at = steps * (size - 1) / (out - 1)
        elif self.half_pixel_centers or (self.pytorch_half_pixel and out > 1):
            at = (steps + 0.5) * size / out - 0.5
        else:
            at = steps * size / out
        at = at.clamp(0, size - 1)
        return (1 - (at[:, None] - torch.arange(size)).abs()).clamp_min(0)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(tuple(x.shape))
        if self.data_format == "NCHW":
            return apply_grid(x, *maps)
        return apply_grid(x.permute(0, 3, 1, 2), *maps).permute(0, 2, 3, 1)
