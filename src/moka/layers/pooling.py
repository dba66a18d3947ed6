"""Layers that reduce windows of each channel to one value."""

from __future__ import annotations

import functools
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import DrawStyle, layer
from moka.layers.shapes import by, refuse_empty_axes
from moka.layers.sliding import KERNEL, PAD, STRIDE, sizes_along, with_sides
from moka.layers.window import Window, pooled_sizes
from moka.schema import caffe_pb2
from moka.types import Shape

Windows = tuple[Window, ...]  # one for each spatial axis


def _by_pixel(grad: Tensor | None) -> Tensor | None:
    """The gradient of a channels-last value in that layout; None, which stands for zeros, stays.

    PyTorch's max pooling copies whole images if the value is channels-last and its gradient is
    row-major, as an inner product leaves it: 0.3 ms of 9 in an iteration of LeNet.
    """
    return None if grad is None else grad.contiguous(memory_format=torch.channels_last)


LOWEST = torch.finfo(torch.float32).min
_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def max_pooling(x: Tensor, windows: Windows, out: Shape) -> Tensor:
    """Largest value of each window of x (N, C, spatial...). Returns (N, C, *out).

    On a tie the gradient goes to the first maximum. A window without pixels gives the lowest float.
    """
    size, pool = x.shape[2:], _MAX[len(windows)]
    if native := _native(size, windows, out):
        y = pool(x, *native)
        if y.requires_grad and y.is_contiguous(memory_format=torch.channels_last):
            y.register_hook(_by_pixel)  # type: ignore[no-untyped-call]
        return y
    padded = _pad(x, windows, out, LOWEST)
    return pool(padded, *_arguments(windows, pad=False))


def max_pooling_mask(x: Tensor, windows: Windows, out: Shape) -> Tensor:
    """The position of each maximum: its row-major index inside the channel (h * W + w), as float;
    -1 for a window without pixels."""
    padded = _pad(x, windows, out, LOWEST)
    pool = _MAX[len(windows)]
    _, rest = pool(padded, *_arguments(windows, pad=False), return_indices=True)
    index, inside, step = torch.zeros_like(rest), torch.ones_like(rest, dtype=torch.bool), 1
    for axis in reversed(range(len(windows))):
        at = rest % padded.shape[2 + axis] - windows[axis].pad
        rest = rest.div(padded.shape[2 + axis], rounding_mode="floor")
        index += at * step
        inside &= (at >= 0) & (at < x.shape[2 + axis])
        step *= x.shape[2 + axis]
    return torch.where(inside, index, -1).to(x.dtype)


def average_pooling(x: Tensor, windows: Windows, out: Shape, *, include_pad: bool = True) -> Tensor:
    """Sum of each window of x (N, C, spatial...), divided by its area inside the padded image.

    Padding counts as pixels of value 0. As in BVLC Caffe, a window without pixels gives NaN (0/0)
    if it starts at the image's end, and 0 if it starts beyond (its "area" is then below 0).

    Args:
        include_pad: False: divide by the area inside the image itself; a window without pixels
            gives 0.
    """
    size, pool = x.shape[2:], _MEAN[len(windows)]
    if native := _native(size, windows, out):
        size_stride_pad, round_up = native[:3], native[4]
        return pool(x, *size_stride_pad, ceil_mode=round_up, count_include_pad=include_pad)
    area = _window_area(x, windows, out, include_pad=include_pad)
    padded = _pad(x, windows, out, 0.0)
    kernel = prod(w.kernel for w in windows)
    return pool(padded, *_arguments(windows, pad=False)) * (kernel / area)


def stochastic_pooling(x: Tensor, windows: Windows, out: Shape, *, training: bool) -> Tensor:
    """In training, draw one value from each window of x >= 0 with a probability proportional to
    it. In testing, average with these probabilities: sum(x^2) / sum(x) (Zeiler and Fergus, 2013).

    A window of zeros gives 0. In training the gradient goes to the drawn value (in a window of
    zeros, to the first one).
    """
    views = _pad(x, windows, out, 0.0)
    for axis, window in enumerate(windows):
        views = views.unfold(2 + axis, window.kernel, window.stride)
    flat = views.flatten(2 + len(windows))
    if not training:
        return flat.square().sum(-1) / (flat.sum(-1) + torch.finfo(x.dtype).tiny)
    cumulative = flat.detach().cumsum(-1)
    total = cumulative[..., -1:]
    drawn = (cumulative[..., :-1] < torch.rand_like(total) * total).sum(-1, keepdim=True)
    return flat.gather(-1, drawn)[..., 0]


@functools.lru_cache(maxsize=1024)
def _native(
    size: Shape, windows: Windows, out: Shape
) -> tuple[list[int], list[int], list[int], int, bool] | None:
    """Kernel, stride, pad, dilation and ceil_mode for PyTorch's own pooling, or None.

    None if PyTorch's result would have other sizes than Caffe's: it refuses pad > kernel / 2, for
    three axes a kernel larger than the image, and without padding it drops windows that start
    outside the image.
    """
    rounds_up = pooled_sizes(size, windows, round_up=False) != out
    fits = pooled_sizes(size, windows, round_up=rounds_up) == out and all(
        2 * w.pad <= w.kernel
        and w.pad == w.after
        and (m - 1) * w.stride < n + w.pad
        and (len(windows) < 3 or w.kernel <= n)
        for n, w, m in zip(size, windows, out, strict=True)
    )
    return (*_arguments(windows), 1, rounds_up) if fits else None


def _arguments(windows: Windows, *, pad: bool = True) -> tuple[list[int], list[int], list[int]]:
    return (
        [w.kernel for w in windows],
        [w.stride for w in windows],
        [w.pad if pad else 0 for w in windows],
    )


def _pad(x: Tensor, windows: Windows, out: Shape, value: float) -> Tensor:
    """Pad (or cut) x so that exactly `out` windows fit along each axis, without rounding."""
    sides: list[int] = []  # from the last axis to the first
    for n, window, m in zip(x.shape[2:], windows, out, strict=True):
        end = (m - 1) * window.stride + window.kernel
        sides = [window.pad, end - (n + window.pad), *sides]
    return F.pad(x, sides, value=value)


def _window_area(x: Tensor, windows: Windows, out: Shape, *, include_pad: bool) -> Tensor:
    """Area of each window inside the padded image, (*out), <= 0 if the window lies outside; or
    inside the image itself, at least 1."""
    area = x.new_ones(())
    for n, window, m in zip(x.shape[2:], windows, out, strict=True):
        start = torch.arange(m, device=x.device) * window.stride - window.pad
        end = (start + window.kernel).clamp_max(n + window.after)
        if not include_pad:
            start, end = start.clamp_min(0), end.clamp_max(n)
        length = end - start if include_pad else (end - start).clamp_min(1)
        area = area[..., None] * length.to(x.dtype)
    return area


@functools.lru_cache(maxsize=1024)
def _windows_and_counts(
    size: Shape, windows: Windows, round_up: bool, clips: bool
) -> tuple[Windows, Shape]:
    """The windows and their number along each axis.

    Strides are cut to just leave the image, which gives the same result: PyTorch overflows on
    absurdly long ones.
    """
    bounded = tuple(
        w._replace(stride=min(w.stride, n + sum(w.sides) + 1))
        for n, w in zip(size, windows, strict=True)
    )
    return bounded, pooled_sizes(size, windows, round_up=round_up, clips=clips)


def pooling(
    method: str,
    x: Tensor,
    windows: Windows,
    out: Shape,
    *,
    training: bool,
    include_pad: bool = True,
) -> Tensor:
    """Pool the windows of x (N, C, spatial...) by MAX, AVE or STOCHASTIC. Returns (N, C, *out)."""
    if method == "STOCHASTIC":
        return stochastic_pooling(x, windows, out, training=training)
    if method == "MAX":
        return max_pooling(x, windows, out)
    return average_pooling(x, windows, out, include_pad=include_pad)


@layer(
    "Pooling",
    bottoms=1,
    tops=(1, 2),
    aliases=("LibDNNPooling",),
    bfloat16="keeps",
    coordinates="window",
    drawn=DrawStyle("#FF9900", kind="{pool}", window=True),
)
class Pooling(Layer):
    """Pool windows of each channel: to their maximum, their average, or a value drawn at random.

    Bottom: (N, C, H, W), or one or three spatial axes; (N, C) counts as (N, C, 1, 1).
    Top: (N, C, H', W') with size = ceil((in + 2 pad - kernel) / stride) + 1 (floor with
    round_mode: FLOOR), less one if there is padding and the last window would start at or beyond
    in + pad. Optional second top, MAX only: the index h * W + w of each maximum, no gradient.
    AVE divides by the window's area inside the padded image. STOCHASTIC, for values >= 0, draws
    a value in training and takes the weighted average in testing (Zeiler and Fergus, 2013).
    Message: pooling_param. kernel_size, stride and pad hold for all spatial axes; the _h and _w
    options are for two axes; kernel_size_3d, stride_3d and pad_3d are given per axis. `engine` has
    no effect here. Forks: `kernel_shape`, `stride_shape` and `pad_shape` (video-caffe) list sizes
    per axis; `kernel_depth`, `temporal_stride` and `temporal_pad` (C3D) are the window along the
    first of three axes; `ceil_mode: false` (Cascade R-CNN) and `torch_pooling: true` (NVCaffe) mean
    FLOOR; with `avg_include_pad: false` (Intel) AVE divides by the window's area inside the image,
    as does `pool: AVE_EXC_PAD`, or AVE_TF (Synopsys);
    `pad_t`, `pad_b`, `pad_l` and `pad_r` (Synopsys) pad the sides of images each by itself.

    Errors: no kernel size; global_pooling with a kernel, pad or stride; pad not smaller than the
    kernel; more than three spatial axes.

    BVLC Caffe pools two spatial axes only, and STOCHASTIC on a GPU only. Its max pooling skips a
    NaN; here, as in PyTorch, the maximum is NaN. PyTorch's sizes differ if pad > kernel / 2, or if
    stride > kernel without padding.
    """

    fork_values: ClassVar = frozenset({"AVE_EXC_PAD", "AVE_TF"})
    clips: ClassVar[bool] = True  # leaves out a window that starts beyond the padded image

    pool: str = option()
    pad: int | None = option(not_negative, unset_is_none=True)
    pad_h: int | None = option(not_negative, unset_is_none=True)
    pad_w: int | None = option(not_negative, unset_is_none=True)
    pad_3d: tuple[int, ...] = option()
    kernel_size: int | None = option(positive, unset_is_none=True)
    kernel_h: int | None = option(positive, unset_is_none=True)
    kernel_w: int | None = option(positive, unset_is_none=True)
    kernel_size_3d: tuple[int, ...] = option(positive)
    stride: int | None = option(positive, unset_is_none=True)
    stride_h: int | None = option(positive, unset_is_none=True)
    stride_w: int | None = option(positive, unset_is_none=True)
    stride_3d: tuple[int, ...] = option(positive)
    engine: str = option()
    global_pooling: bool = option()
    round_mode: str = option()
    ceil_mode: bool = option()
    torch_pooling: bool = option()
    avg_include_pad: bool = option()
    kernel_shape: caffe_pb2.BlobShape = option()
    stride_shape: caffe_pb2.BlobShape = option()
    pad_shape: caffe_pb2.BlobShape = option()
    kernel_depth: int | None = option(not_negative)
    temporal_stride: int | None = option(positive, unset_is_none=True)
    temporal_pad: int | None = option(unset_is_none=True)
    pad_t: int = option()
    pad_b: int = option()
    pad_l: int = option()
    pad_r: int = option()
    pad_type: int = option()

    def setup(self, x: Shape) -> None:
        if self.top_count > 1:  # bfloat16 does not hold the indices of the mask
            self.precision = "float32"
        if self.pool in self.fork_values:
            self.pool, self.avg_include_pad = "AVE", False
        self.kept_for_gradient = 2 if self.pool == "MAX" else 0  # indices of 8 bytes
        self.axes = len(_size(x))
        self.rounds_up = self.round_mode == "CEIL" and self.ceil_mode and not self.torch_pooling
        if not 2 <= len(x) <= 2 + max(_MAX):
            raise NetError(f"pools bottoms (N, C, spatial...) of up to three spatial axes, got"
                           f" shape {x}.")  # fmt: skip
        if self.global_pooling:
            self._check_global()
            return
        sizes = (
            sizes_along(self, prop, self._plain(prop.name), self.axes)
            for prop in (KERNEL, STRIDE, PAD)
        )
        plain = [Window(*fields) for fields in zip(*sizes, strict=True)]
        self.windows = tuple(with_sides(self, plain, _size(x)))
        suffixes = ("_h", "_w") if self.axes == 2 else ("",) * self.axes
        for k, window in zip(suffixes, self.windows, strict=True):
            if max(window.sides) >= window.kernel:
                raise NetError(
                    f"pad{k} must be < kernel{k}, got pad{k}={max(window.sides)},"
                    f" kernel{k}={window.kernel}."
                )

    def _plain(self, name: str) -> Shape:
        """The values of an option or of its _3d form: none, one, or one for each axis."""
        plain: int | None = getattr(self, name)
        each: Shape = getattr(self, f"{name}_3d")
        if plain is not None and each:
            raise NetError(f"give either {name} or {name}_3d, not both.")
        return each if plain is None else (plain,)

    def _check_global(self) -> None:
        kernels = (self.kernel_size, self.kernel_h, self.kernel_w, self.kernel_depth)
        if any((*kernels, *self.kernel_size_3d, *self.kernel_shape.dim)):
            raise NetError("with global_pooling the kernel is the image: give no kernel size.")
        pads = (self.pad, self.pad_h, self.pad_w, self.temporal_pad)
        sides = (self.pad_t, self.pad_b, self.pad_l, self.pad_r, self.pad_type)
        if any((*pads, *sides, *self.pad_3d, *self.pad_shape.dim)):
            raise NetError("with global_pooling pad must be 0.")
        strides = (self.stride, self.stride_h, self.stride_w, self.temporal_stride)
        if any((s or 1) != 1 for s in (*strides, *self.stride_3d, *self.stride_shape.dim)):
            raise NetError("with global_pooling stride must be 1.")

    def _windows(self, size: Shape) -> Windows:
        return tuple(Window(n) for n in size) if self.global_pooling else self.windows

    def _out(self, size: Shape) -> Shape:
        windows = self._windows(size)
        return pooled_sizes(size, windows, round_up=self.rounds_up, clips=self.clips)

    def top_shapes(self, x: Shape) -> list[Shape]:
        size = _size(x)
        if len(size) != self.axes:
            raise NetError(f"was made for {self.axes} spatial axes, got a bottom of shape {x}.")
        if self.pool != "MAX" and self.top_count > 1:
            raise NetError("only MAX pooling has a second top (the mask).")
        refuse_empty_axes(x, first=1)
        out = self._out(size)
        if min(out) < 1:
            windows = self._windows(size)
            padded = tuple(n + sum(w.sides) for n, w in zip(size, windows, strict=True))
            raise NetError(
                f"the kernel ({by([w.kernel for w in windows])}) is larger than the padded image"
                f" ({by(padded)}).",
                advice="global_pooling: true fits any size.",
            )
        return [(*x[:2], *out)] * self.top_count

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = _size(tuple(x.shape))
        if x.dim() == 2:
            x = x[..., None, None]
        windows, out = _windows_and_counts(size, self._windows(size), self.rounds_up, self.clips)
        y = pooling(
            self.pool,
            x,
            windows,
            out,
            training=self.training,
            include_pad=self.avg_include_pad,
        )
        if self.top_count == 1:
            return y
        return [y, max_pooling_mask(x.detach(), windows, out)]


def _size(x: Shape) -> Shape:
    """Sizes of the spatial axes. As in BVLC Caffe, (N, C) has one pixel."""
    return x[2:] or (1, 1)
