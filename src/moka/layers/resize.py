"""Layers that bring images to another size by interpolation."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.grid import apply_grid, centered_weights, nearest_pixels, pick_grid, require_images
from moka.layers.options import Check, not_negative, option, positive
from moka.layers.registry import layer
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
    (z - 1); `height` and `width`; both factors shrink first and then zoom the size.

    Errors: no size, or one without pixels; an image that is cut away; bottoms that are not 4-D.
    """

    height: int = option(not_negative)
    width: int = option(not_negative)
    zoom_factor: int | None = option(positive, unset_is_none=True)
    shrink_factor: int | None = option(positive, unset_is_none=True)
    pad_beg: int = option(not_positive)
    pad_end: int = option(not_positive)

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

    Output pixel i lies at (i + 1/2) in / out - 1/2 of the input. Bottoms: images (N, C, H, W);
    optionally a blob whose height and width are the size, which takes no gradient. Top: (N, C, H',
    W') with `height` and `width`, or without them with in * factor, rounded down. Message:
    resample_param. `type`: NEAREST (of two nearest pixels the second), LINEAR or CUBIC (a = -1/2).
    If an axis shrinks the kernel is in / out wide along both (so narrower along one that grows),
    unless `antialias: false`. Weights of pixels beyond the image are left out.

    FlowNet2 takes the shift along one axis from the other's scale, which counts only if both
    scales differ; here each axis has its own. It has no gradient; here the gradient is exact.

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
        return (int(x[2] * self.factor), int(x[3] * self.factor))

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        top = self.top_shapes(tuple(x.shape), None if reference is None else reference.shape)[0]
        axes = list(zip(x.shape[2:], top[2:], strict=True))
        if self.type == "NEAREST":
            return pick_grid(x, *(nearest_pixels(n, m) for n, m in axes))
        antialias = self.antialias and any(n > m for n, m in axes)
        weights = (centered_weights(n, m, self.type, antialias=antialias) for n, m in axes)
        return apply_grid(x, *weights)


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
        height = self.new_height or int(x[2] * (self.scale_h or 1))
        width = self.new_width or int(x[3] * (self.scale_w or 1))
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
