"""Layers that enlarge images, as the reverse of pooling."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.gradient import with_gradient_of
from moka.layers.grid import apply_grid, pick_grid, require_images
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import times
from moka.layers.window import Window, per_axis
from moka.schema.forms import form_of
from moka.types import Shape

SIZE_ADVICE = "The size must be that of the blob which was pooled: give upsample_h and upsample_w."


def max_unpooling(x: Tensor, mask: Tensor, height: int, width: int) -> Tensor:
    """Put each value of x (N, C, H, W) at the index h * width + w that the mask says, 0 elsewhere.

    Of several values for one place the last in row-major order wins; as in SegNet each of them gets
    the gradient of the place. A mask below 0 drops the value. Returns (N, C, height, width).

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
    index = index.where(index >= 0, area)
    source.scatter_reduce_(2, index, order, "amax")
    source, values = source[..., :area], x.flatten(2)
    picked = values.detach().gather(2, source.clamp_min(0)).where(source >= 0, 0)
    if x.requires_grad:
        sums = values.new_zeros(*x.shape[:2], area + 1).scatter_add(2, index, values)
        picked = with_gradient_of(picked, sums[..., :area])
    return picked.reshape(*x.shape[:2], height, width)


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
    value wins, and each gets the gradient of the place. The size is upsample_h x upsample_w, or
    scale (2) times the bottom's, one row or column less with pad_out_h or pad_out_w, which need a
    scale of 2.

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
        size = [times(n, factor) for n, factor in zip(x[2:], self.factors, strict=True)]
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

    Errors: no kernel; both forms of an option; pad not smaller than the kernel; no pixels left; a
    method of DeconvNet's Unpooling.
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
        _check_method(self.unpool, ("FIXED", "DIV", "REP"))
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


def _check_method(unpool: str, known: tuple[str, ...]) -> None:
    """UnPooling and Unpooling share a message, whose methods belong to one of them each."""
    if unpool not in known:
        raise NetError(f"unpool must be {', '.join(known[:-1])} or {known[-1]}, got {unpool}.")


@layer(
    "Unpooling",
    bottoms=(1, 2),
    tops=1,
    message="unpooling_param",
    fixed_bottoms=(1,),
    fork="DeconvNet, DecoupledNet and Deep Image Matting",
)
class Unpooling(Layer):
    """Undo a pooling: put each value back where it came from, or spread it over its window.

    Value (i, j) has the window that begins at pixel (i stride, j stride) and ends after the kernel,
    or at the image's end. MAX (default) puts the value at the index that the mask of a Pooling
    layer says, or without a mask at the window's first pixel; of several values for one place the
    last in row-major order wins, and each gets the gradient of the place. AVE divides a value among
    the pixels of its window, TILE repeats it; where windows overlap values add up. `engine` has no
    effect here.

    Bottoms: images (N, C, H, W); with MAX optionally the mask, of the same shape, which takes no
    gradient. Top: (N, C, unpool_size, unpool_size), or unpool_h x unpool_w. Message:
    unpooling_param. Noh et al., 2015.

    Errors: no kernel_size, or no unpool_size; both forms of an option; padding, which the forks
    refuse too; a mask with AVE or TILE, of another shape, or with an index beyond the image; a
    method of ParseNet's UnPooling.

    As in the forks, TILE's gradient is the mean over the window, not the sum.
    """

    unpool: str | None = option(unset_is_none=True)
    pad: int = option(not_negative)
    kernel_size: int | None = option(positive)
    stride: int | None = option(positive, unset_is_none=True)
    kernel_h: int | None = option(positive)
    kernel_w: int | None = option(positive)
    stride_h: int | None = option(positive)
    stride_w: int | None = option(positive)
    pad_h: int = option(not_negative)
    pad_w: int = option(not_negative)
    unpool_size: int | None = option(positive)
    unpool_h: int | None = option(positive)
    unpool_w: int | None = option(positive)
    engine: str = option()

    def setup(self, x: Shape, mask: Shape | None = None) -> None:
        self.method = self.unpool or "MAX"
        _check_method(self.method, ("MAX", "AVE", "TILE"))
        if self.pad or self.pad_h or self.pad_w:
            raise NetError("padding is not supported: leave pad out.")
        if mask is not None and self.method != "MAX":
            raise NetError(f"takes a mask with unpool: MAX only, got {self.method}.")
        kernels = self._both("kernel_size", self.kernel_size, None)
        strides = self._both("stride", self.stride, 1)
        self.windows = [Window(*w) for w in zip(kernels, strides, strict=True)]
        self.size = self._both("unpool_size", self.unpool_size, None)

    def _both(self, name: str, plain: int | None, default: int | None) -> tuple[int, ...]:
        stem = name.removesuffix("_size")
        h, w = getattr(self, f"{stem}_h"), getattr(self, f"{stem}_w")
        return per_axis(name, () if plain is None else (plain,), h, w, 2, default)

    def top_shapes(self, x: Shape, mask: Shape | None = None) -> list[Shape]:
        require_images(x)
        if mask is not None and mask != x:
            raise NetError(f"the mask must have the shape of the first bottom, {x}, got {mask}.")
        return [(*x[:2], *self.size)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.method == "MAX":
            index = self.first_pixels(tuple(x.shape)).expand_as(x) if mask is None else mask
            return max_unpooling(x, index.to(x.device), *self.size)
        y = apply_grid(x, *self.shares(self.method, tuple(x.shape)))
        if self.method == "TILE" and x.requires_grad:
            y = with_gradient_of(y.detach(), apply_grid(x, *self.shares("AVE", tuple(x.shape))))
        return y

    def first_pixels(self, x: Shape) -> Tensor:
        """The index h * width + w of the first pixel of each window, (H, W); of one beyond the
        image that of the last row or column."""
        rows, columns = (
            (torch.arange(n) * window.stride).clamp_max(out - 1)
            for n, out, window in zip(x[2:], self.size, self.windows, strict=True)
        )
        return rows[:, None] * self.size[1] + columns

    def shares(self, method: str, x: Shape) -> list[Tensor]:
        """The share of each value in each pixel of the top, for the rows and for the columns."""
        return [
            window_shares(method, *axis)
            for axis in zip(x[2:], self.size, self.windows, strict=True)
        ]


@lru_cache(maxsize=256)
def window_shares(method: str, size: int, out: int, window: Window) -> Tensor:
    """The share of each of `size` values in each of `out` pixels along one axis, (out, size): 1
    with TILE, 1 / length with AVE, for the pixels of its window inside the image."""
    weights = torch.zeros(out, size)
    for k in range(size):
        start = k * window.stride
        length = min(window.kernel, out - start)
        weights[start : start + max(0, length), k] = 1 if method == "TILE" else 1 / max(1, length)
    return weights
