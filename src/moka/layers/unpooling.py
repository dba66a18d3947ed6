"""Layers that enlarge images, as the reverse of pooling."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.grid import apply_grid, pick_grid, require_images
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.window import Window
from moka.schema.forms import form_of
from moka.types import Shape

SIZE_ADVICE = "The size must be that of the blob which was pooled: give upsample_h and upsample_w."


def max_unpooling(x: Tensor, mask: Tensor, height: int, width: int) -> Tensor:
    """Put each value of x (N, C, H, W) at the index h * width + w that the mask says, 0 elsewhere.

    Of several values for one place the last in row-major order wins; it alone has a gradient. A
    mask below 0 drops the value. Returns (N, C, height, width).

    Raises:
        DataError: an index beyond the image.
    """
    area = height * width
    index = mask.detach().long().flatten(2)
    if index.numel() and int(index.max()) >= area:
        raise DataError(
            f"the mask has the index {int(index.max())}, the image of {height} x {width} has"
            f" {area} pixels.",
            advice=SIZE_ADVICE,
        )
    order = torch.arange(index.shape[2], device=x.device).expand_as(index)
    # Which value each place gets; -1: none. One more place takes the values that are dropped.
    source = index.new_full((*x.shape[:2], area + 1), -1)
    source.scatter_reduce_(2, index.where(index >= 0, area), order, "amax")
    source = source[..., :area]
    picked = x.flatten(2).gather(2, source.clamp_min(0))
    return picked.where(source >= 0, 0).reshape(*x.shape[:2], height, width)


@layer(
    "Upsample",
    bottoms=(1, 2),
    tops=1,
    fixed_bottoms=(1,),
    fork="SegNet, ENet, MobileNet-YOLO and Ascend",
)
class Upsample(Layer):
    """Enlarge images, by a mask of max pooling or by repeating pixels.

    Bottoms: images (N, C, H, W); in SegNet's and ENet's form the mask of a Pooling layer, of the
    same shape, which takes no gradient. Top: (N, C, H', W'). Message: upsample_param.

    With a mask, or `scale_h`, `scale_w`, `pad_out_h`, `pad_out_w`, `upsample_h`, `upsample_w`:
    each value goes to the index of its maximum, and 0 elsewhere; where windows overlapped the last
    value wins. The size is upsample_h x upsample_w, or scale (2) times the bottom's, one row or
    column less with pad_out_h or pad_out_w, which need a scale of 2.

    MobileNet-YOLO's form, with one bottom: pixel i is pixel floor(i / scale) of the bottom.

    Ascend's form (`stride`, `stride_h` or `stride_w`): pixel i is scale (1) times pixel
    floor(i / stride) of the bottom; the strides are 2 if they are not given.

    Errors: a mask of another shape, or with an index beyond the image; a scale below 1.
    """

    scale: float = option(positive)
    scale_h: int | None = option(positive)
    scale_w: int | None = option(positive)
    pad_out_h: bool = option()
    pad_out_w: bool = option()
    upsample_h: int | None = option(positive)
    upsample_w: int | None = option(positive)
    stride: int | None = option(positive)
    stride_h: int | None = option(positive)
    stride_w: int | None = option(positive)

    def setup(self, x: Shape, mask: Shape | None = None) -> None:
        form = form_of(self.config)
        assert form is not None
        self.form = form.name
        if (self.form == "mask") != (mask is not None):
            raise NetError("takes a second bottom, the mask of a Pooling layer, with these options."
                           if mask is None else "takes one bottom with these options.")  # fmt: skip
        if self.form == "stride":
            both = self.stride or 2
            self.factors: tuple[float, float] = (self.stride_h or both, self.stride_w or both)
            return
        if (self.scale_h is None) != (self.scale_w is None):
            raise NetError("give both scale_h and scale_w.")
        if self.scale_h is not None and self.scale_w is not None:
            self.factors = (self.scale_h, self.scale_w)
        else:
            given = self.config.upsample_param.HasField("scale")
            scale = self.scale if given or self.form != "mask" else 2.0
            self.factors = (scale, scale)
        if min(self.factors) < 1:
            raise NetError(f"the scale must be at least 1, got {min(self.factors):g}.")
        for pads, factor in zip((self.pad_out_h, self.pad_out_w), self.factors, strict=True):
            if pads and factor != 2:
                raise NetError(f"pad_out_h and pad_out_w need a scale of 2, got {factor:g}.")

    def top_shapes(self, x: Shape, mask: Shape | None = None) -> list[Shape]:
        require_images(x)
        if mask is not None and mask != x:
            raise NetError(f"the mask must have the shape of the first bottom, {x}, got {mask}.")
        if self.upsample_h is not None and self.upsample_w is not None:
            return [(*x[:2], self.upsample_h, self.upsample_w)]
        size = [int(n * factor) for n, factor in zip(x[2:], self.factors, strict=True)]
        return [(*x[:2], size[0] - self.pad_out_h, size[1] - self.pad_out_w)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        shape = None if mask is None else tuple(mask.shape)
        _, _, height, width = self.top_shapes(tuple(x.shape), shape)[0]
        if mask is not None:
            return max_unpooling(x, mask, height, width)
        rows, columns = (
            (torch.arange(n) / factor).long()
            for n, factor in zip((height, width), self.factors, strict=True)
        )
        y = pick_grid(x, rows, columns)
        return y * self.scale if self.form == "stride" and self.scale != 1 else y


@layer(
    "UnPooling",
    bottoms=(1, 2),
    tops=1,
    message="unpooling_param",
    fixed_bottoms=(1,),
    fork="ParseNet",
)
class UnPooling(Layer):
    """Enlarge images without a mask: each value goes into a window of the top.

    FIXED puts a value into the middle of its window, DIV divides it among the pixels of the window,
    REP repeats it. Pixels without a value are 0; where windows overlap FIXED takes the last value,
    DIV and REP the sum divided by the count of windows.

    Bottoms: images (N, C, H, W); optionally a blob whose height and width are about those of the
    top: kernel and stride are then the ratio of sizes, rounded up, and the pad is half of what is
    too much, rounded down. It takes no gradient. Top: (N, C, H', W') with size
    (in - 1) stride - 2 pad + kernel. Message: unpooling_param (the kernel is needed with one
    bottom).

    Errors: no kernel; both forms of an option; pad not smaller than the kernel; no pixels left.
    """

    unpool: str = option()
    out_kernel_size: int | None = option(positive)
    out_stride: int | None = option(positive, unset_is_none=True)
    out_pad: int | None = option(not_negative, unset_is_none=True)
    out_kernel_h: int | None = option(positive)
    out_kernel_w: int | None = option(positive)
    out_stride_h: int | None = option(positive)
    out_stride_w: int | None = option(positive)
    out_pad_h: int | None = option(not_negative, unset_is_none=True)
    out_pad_w: int | None = option(not_negative, unset_is_none=True)

    def setup(self, x: Shape, reference: Shape | None = None) -> None:
        if reference is None:
            kernels = self._both("out_kernel", self.out_kernel_size, None)
            strides = self._both("out_stride", self.out_stride, 1)
            pads = self._both("out_pad", self.out_pad, 0)
            self.windows = [Window(*w) for w in zip(kernels, strides, pads, strict=True)]

    def _both(self, name: str, plain: int | None, default: int | None) -> tuple[int, int]:
        h: int | None = getattr(self, f"{name}_h")
        w: int | None = getattr(self, f"{name}_w")
        if plain is not None and (h is not None or w is not None):
            raise NetError(f"give either one {name} or {name}_h and {name}_w, not both.")
        if (h is None) != (w is None):
            raise NetError(f"give both {name}_h and {name}_w.")
        if h is not None and w is not None:
            return (h, w)
        value = default if plain is None else plain
        if value is None:
            raise NetError("out_kernel_size is missing.")
        return (value, value)

    def windows_for(self, x: Shape, reference: Shape | None) -> list[Window]:
        if reference is None:
            return self.windows
        return [_window_to_reach(n, m) for n, m in zip(x[2:], reference[2:], strict=True)]

    def top_shapes(self, x: Shape, reference: Shape | None = None) -> list[Shape]:
        require_images(x, *((reference,) if reference else ()))
        windows = self.windows_for(x, reference)
        for window in windows:
            if window.pad >= window.kernel:
                raise NetError(
                    f"the pad must be < the kernel, got pad {window.pad}, kernel {window.kernel}."
                )
        size = [w.deconvolved(n) for w, n in zip(windows, x[2:], strict=True)]
        if min(size) < 1:
            raise NetError(f"the padding leaves no output: its size is {size}.")
        return [(*x[:2], *size)]

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        windows = self.windows_for(
            tuple(x.shape), None if reference is None else tuple(reference.shape)
        )
        rows, columns = (
            spread(self.unpool, n, window) for n, window in zip(x.shape[2:], windows, strict=True)
        )
        return apply_grid(x, rows, columns)


def _window_to_reach(size: int, out: int) -> Window:
    """The window along an axis that makes about `out` pixels of `size`."""
    kernel = ceil(out / size)
    stride = 1 if kernel == out else kernel
    return Window(kernel, stride, max(0, ((size - 1) * stride + kernel - out) // 2))


@lru_cache(maxsize=256)
def spread(method: str, size: int, window: Window) -> Tensor:
    """The share of each of `size` values in each pixel of the top, along one axis."""
    out = window.deconvolved(size)
    weights = torch.zeros(out, size)
    starts = [k * window.stride - window.pad for k in range(size)]
    if method == "FIXED":
        for k, start in enumerate(starts):
            middle = min(max((2 * start + window.kernel - 1) // 2, 0), out - 1)
            weights[middle] = 0  # of several the last wins
            weights[middle, k] = 1
        return weights
    for k, start in enumerate(starts):
        end = min(start + window.kernel, out + window.pad)
        share = 1 / (end - start) if method == "DIV" else 1.0
        weights[max(start, 0) : min(end, out), k] = share
    return weights / (weights > 0).sum(1, keepdim=True).clamp_min(1)
