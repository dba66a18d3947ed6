"""Layers that summarise windows of each channel."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from moka.errors import NetError
from moka.layers.base import Layer, Shape, not_negative, param, positive
from moka.layers.registry import layer
from moka.layers.window import Window, per_axis

Windows = tuple[Window, ...]  # one for each spatial axis
Sizes = tuple[int, ...]


class _GradLikeValue(Function):
    """Nothing forward; backward, lay the gradient out in memory as the value was.

    PyTorch's max pooling copies whole images when it gets a row-major gradient for a channels-last
    value, as an inner product hands it down: 0.3 ms of 9 in an iteration of LeNet.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.channels_last = x.is_contiguous(memory_format=torch.channels_last)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous(memory_format=torch.channels_last) if ctx.channels_last else grad


LOWEST = torch.finfo(torch.float32).min


def max_pooling(x: Tensor, windows: Windows, out: Sizes) -> Tensor:
    """Largest value of each window of x (N, C, H, W); (N, C, *out). First maximum on ties.

    A window without any pixel gives the lowest float.
    """
    size = x.shape[2:]
    if _fits(size, windows, out):
        y = F.max_pool2d(x, *_arguments(windows), ceil_mode=_rounds_up(size, windows, out))
        return _GradLikeValue.apply(y) if y.requires_grad else y  # type: ignore[no-untyped-call]
    padded = _pad(x, windows, out, LOWEST)
    return F.max_pool2d(padded, *_arguments(windows, pad=False))


def max_pooling_mask(x: Tensor, windows: Windows, out: Sizes) -> Tensor:
    """Where each maximum was: h * W + w inside its channel, as float; -1 for an empty window."""
    padded = _pad(x, windows, out, LOWEST)
    _, index = F.max_pool2d(padded, *_arguments(windows, pad=False), return_indices=True)
    row = index.div(padded.shape[3], rounding_mode="floor") - windows[0].pad
    column = index % padded.shape[3] - windows[1].pad
    inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
    return torch.where(inside, row * x.shape[3] + column, -1).to(x.dtype)


def average_pooling(x: Tensor, windows: Windows, out: Sizes) -> Tensor:
    """Sum of each window of x (N, C, H, W) over its area clipped to the padded image.

    Padding counts as pixels of value 0; a window outside of the padded image gives NaN (0/0).
    """
    size = x.shape[2:]
    if _fits(size, windows, out):
        return F.avg_pool2d(x, *_arguments(windows), ceil_mode=_rounds_up(size, windows, out))
    area = _window_area(x, windows, out)
    padded = _pad(x, windows, out, 0.0)
    kernel = windows[0].kernel * windows[1].kernel
    return F.avg_pool2d(padded, *_arguments(windows, pad=False)) * (kernel / area)


def stochastic_pooling(x: Tensor, windows: Windows, out: Sizes, *, training: bool) -> Tensor:
    """One value of each window of x >= 0, drawn with chance proportional to it; in testing the
    average weighted the same way, sum(x^2) / sum(x) (Zeiler and Fergus, 2013)."""
    padded = _pad(x, windows, out, 0.0)
    views = padded
    for axis, window in enumerate(windows):
        views = views.unfold(2 + axis, window.kernel, window.stride)
    flat = views.flatten(4)
    total = flat.sum(-1)
    if not training:
        return torch.where(total > 0, flat.square().sum(-1) / total.clamp_min(1e-30), 0.0)
    threshold = torch.rand_like(total) * total
    chosen = (flat.cumsum(-1) < threshold[..., None]).sum(-1, keepdim=True)
    return flat.gather(-1, chosen.clamp_max(flat.shape[-1] - 1))[..., 0]


@functools.lru_cache(maxsize=1024)
def _rounds_up(size: Sizes, windows: Windows, out: Sizes) -> bool:
    return any(w.pooled(n, round_up=False) != m for n, w, m in zip(size, windows, out, strict=True))


@functools.lru_cache(maxsize=1024)
def _fits(size: Sizes, windows: Windows, out: Sizes) -> bool:
    """Whether PyTorch's own pooling has Caffe's sizes here: it refuses pad > kernel / 2 and drops
    windows that start outside of an image without padding."""
    rounds_up = _rounds_up(size, windows, out)
    return all(
        2 * w.pad <= w.kernel
        and w.pooled(n, round_up=rounds_up) == m
        and (m - 1) * w.stride < n + w.pad
        for n, w, m in zip(size, windows, out, strict=True)
    )


def _arguments(windows: Windows, *, pad: bool = True) -> tuple[list[int], list[int], list[int]]:
    return (
        [w.kernel for w in windows],
        [w.stride for w in windows],
        [w.pad if pad else 0 for w in windows],
    )


def _pad(x: Tensor, windows: Windows, out: Sizes, value: float) -> Tensor:
    """Pad (or cut) so that exactly the windows wanted fit without rounding."""
    h, w = (
        ((m - 1) * win.stride + win.kernel) - (n + win.pad)
        for n, win, m in zip(x.shape[2:], windows, out, strict=True)
    )
    return F.pad(x, (windows[1].pad, w, windows[0].pad, h), value=value)


def _window_area(x: Tensor, windows: Windows, out: Sizes) -> Tensor:
    """Area of each window clipped to the padded image, (*out)."""
    lengths = []
    for n, window, m in zip(x.shape[2:], windows, out, strict=True):
        start = torch.arange(m, device=x.device) * window.stride - window.pad
        end = (start + window.kernel).clamp_max(n + window.pad)
        lengths.append((end - start).clamp_min(0).to(x.dtype))
    return lengths[0][:, None] * lengths[1]


def pooling(method: str, x: Tensor, windows: Windows, out: Sizes, *, training: bool) -> Tensor:
    """Pool the windows of x (N, C, H, W) by MAX, AVE or STOCHASTIC; (N, C, *out)."""
    if method == "STOCHASTIC":
        return stochastic_pooling(x, windows, out, training=training)
    return (max_pooling if method == "MAX" else average_pooling)(x, windows, out)


@layer("Pooling", bottoms=1, tops=(1, 2))
class Pooling(Layer):
    """Pooling of windows of each channel: their maximum, average, or a value drawn by chance.

    Bottom: (N, C, H, W). Top: (N, C, H', W') with size = ceil((in + 2 pad - kernel) / stride) + 1
    (floor with round_mode: FLOOR), less one if padding is used and the last window would start
    at or beyond in + pad. Second top, MAX only: the index h * W + w of each maximum, no gradient.
    Message: pooling_param. `engine` changes nothing here.

    Errors: no kernel size; global_pooling with a kernel, pad or stride; pad not smaller than the
    kernel; a bottom that is not 4-D.

    PyTorch differs: its max pooling hands a NaN on, BVLC's skips it (here: handed on); its sizes
    differ where pad > kernel / 2, or stride > kernel without padding.
    """

    pool = param()
    pad = param(not_negative, unset_is_none=True)
    pad_h = param(not_negative, unset_is_none=True)
    pad_w = param(not_negative, unset_is_none=True)
    kernel_size = param(positive, unset_is_none=True)
    kernel_h = param(positive, unset_is_none=True)
    kernel_w = param(positive, unset_is_none=True)
    stride = param(positive, unset_is_none=True)
    stride_h = param(positive, unset_is_none=True)
    stride_w = param(positive, unset_is_none=True)
    engine = param()
    global_pooling = param()
    round_mode = param()

    def setup(self, x: Shape) -> None:
        if self.global_pooling:
            self._check_global()
            return
        sizes = (
            per_axis(
                name,
                () if plain is None else (plain,),
                getattr(self, f"{stem}_h"),
                getattr(self, f"{stem}_w"),
                2,
                default,
            )
            for name, stem, plain, default in (
                ("kernel_size", "kernel", self.kernel_size, None),
                ("stride", "stride", self.stride, 1),
                ("pad", "pad", self.pad, 0),
            )
        )
        self.windows = tuple(Window(*fields) for fields in zip(*sizes, strict=True))
        for axis, window in zip("hw", self.windows, strict=True):
            if window.pad >= window.kernel:
                raise NetError(
                    f"pad_{axis} must be < kernel_{axis}, got pad_{axis}={window.pad},"
                    f" kernel_{axis}={window.kernel}."
                )

    def _check_global(self) -> None:
        if self.kernel_size or self.kernel_h or self.kernel_w:
            raise NetError("with global_pooling the kernel is the image: give no kernel size.")
        if self.pad or self.pad_h or self.pad_w:
            raise NetError("with global_pooling pad must be 0.")
        if any((s or 1) != 1 for s in (self.stride, self.stride_h, self.stride_w)):
            raise NetError("with global_pooling stride must be 1.")

    def _windows(self, size: Sizes) -> Windows:
        return tuple(Window(n) for n in size) if self.global_pooling else self.windows

    def _out(self, size: Sizes) -> Sizes:
        up = self.round_mode == "CEIL"
        return tuple(
            w.pooled(n, round_up=up) for n, w in zip(size, self._windows(size), strict=True)
        )

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"pools images (N, C, H, W), got a bottom of shape {x}.")
        if self.pool != "MAX" and len(self.config.top) > 1:
            raise NetError("only MAX pooling has a second top (the mask).")
        out = self._out(x[2:])
        if min(out) < 1:
            raise NetError(f"the window {self._windows(x[2:])} is larger than the image {x[2:]}.")
        return [(*x[:2], *out)] * max(1, len(self.config.top))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        windows, out = self._windows(x.shape[2:]), self._out(x.shape[2:])
        y = pooling(self.pool, x, windows, out, training=self.training)
        if len(self.config.top) == 1:
            return y
        return [y, max_pooling_mask(x.detach(), windows, out)]


@layer("SPP", bottoms=1, tops=1, message="spp_param")
class SPP(Layer):
    """Spatial pyramid pooling: level l pools the image into 2^l x 2^l bins.

    Bottom: (N, C, H, W). Top: (N, C * sum of 4^l) over all levels; with one level (N, C, 1, 1).
    Level l has kernel ceil(in / bins), stride = kernel and pad (kernel * bins - in + 1) // 2.
    Message: spp_param (`engine` changes nothing here). He et al., 2014.

    Errors: an image too small for its levels (a pad that reaches the kernel).
    """

    pyramid_height = param(positive, required=True)
    pool = param()
    engine = param()

    def setup(self, x: Shape) -> None:
        if len(x) != 4:
            raise NetError(f"pools images (N, C, H, W), got a bottom of shape {x}.")

    def _levels(self, size: Sizes) -> list[Windows]:
        levels = []
        for level in range(self.pyramid_height):
            bins = 2**level
            windows = []
            for n in size:
                kernel = -(-n // bins)
                windows.append(Window(kernel, kernel, (kernel * bins - n + 1) // 2))
            if any(w.pad >= w.kernel for w in windows):
                raise NetError(f"an image of {size} is too small for {self.pyramid_height} levels.")
            levels.append(tuple(windows))
        return levels

    def _outs(self, size: Sizes) -> list[Sizes]:
        return [
            tuple(w.pooled(n) for n, w in zip(size, windows, strict=True))
            for windows in self._levels(size)
        ]

    def top_shapes(self, x: Shape) -> list[Shape]:
        outs = self._outs(x[2:])
        if len(outs) == 1:
            return [(*x[:2], *outs[0])]
        return [(x[0], x[1] * sum(h * w for h, w in outs))]

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        pooled = [
            pooling(self.pool, x, windows, out, training=self.training)
            for windows, out in zip(self._levels(size), self._outs(size), strict=True)
        ]
        return pooled[0] if len(pooled) == 1 else torch.cat([p.flatten(1) for p in pooled], 1)
