"""Layers that slide a learned kernel over the spatial axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import (
    BlobSpec,
    Layer,
    Shape,
    canonical_axis,
    param,
    positive,
)
from moka.layers.registry import layer
from moka.layers.window import Window, per_axis

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, windows: Sequence[Window], group: int
) -> Tensor:
    """Cross-correlate x (N, C, spatial...) with weight (M, C/group, kernel...); bias (M,).

    `windows` has one entry a spatial axis (up to three). Without spatial axes it is an inner
    product over the channels. Returns (N, M, spatial...), sizes rounded down.
    """
    if not windows:
        return convolution(x[..., None], weight[..., None], bias, windows=[Window(1)], group=group)[
            ..., 0
        ]
    return _CONVOLVE[len(windows)](
        x,
        weight,
        bias,
        stride=[w.stride for w in windows],
        padding=[w.pad for w in windows],
        dilation=[w.dilation for w in windows],
        groups=group,
    )


@layer("Convolution", bottoms=(1, None), tops=(1, None), one_top_each=True)
class Convolution(Layer):
    """Convolution with learned kernels: y[m] = b[m] + sum over c of w[m, c] * x[c].

    Bottoms: each (N..., C, spatial...), axes before `axis` are batch axes; all use the same
    parameters. Tops: (N..., num_output, spatial...) with
    size = floor((in + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1.
    Blobs: weight (num_output, C/group, kernel...), bias (num_output,) unless bias_term: false.
    Message: convolution_param. `engine` and `force_nd_im2col` choose an implementation in BVLC
    Caffe; here they change nothing.

    Errors: no kernel size; C or num_output not a multiple of group; a kernel larger than the
    padded image; more than three spatial axes.
    """

    num_output = param(positive, required=True)
    bias_term = param()
    pad = param()
    kernel_size = param(positive)
    group = param(positive)
    stride = param(positive)
    weight_filler = param()
    bias_filler = param()
    pad_h = param()
    pad_w = param()
    kernel_h = param(positive)
    kernel_w = param(positive)
    stride_h = param(positive)
    stride_w = param(positive)
    axis = param()
    dilation = param(positive)
    force_nd_im2col = param()
    engine = param()

    def setup(self, *bottom_shapes: Shape) -> None:
        x = bottom_shapes[0]
        self.channel_axis = canonical_axis(self.axis, x)
        axes = len(x) - self.channel_axis - 1
        if axes > max(_CONVOLVE):
            raise NetError(f"convolves at most 3 spatial axes, the bottom has {axes}.")
        kernels = per_axis(
            "kernel_size", self.kernel_size, self.kernel_h, self.kernel_w, axes, None
        )
        self.windows = [
            Window(*fields)
            for fields in zip(
                kernels,
                per_axis("stride", self.stride, self.stride_h, self.stride_w, axes, 1),
                per_axis("pad", self.pad, self.pad_h, self.pad_w, axes, 0),
                per_axis("dilation", self.dilation, None, None, axes, 1),
                strict=True,
            )
        ]

    def _channels(self, x: Shape) -> int:
        return x[self.channel_axis]

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        first = bottom_shapes[0]
        for x in bottom_shapes:
            if len(x) != len(first) or self._channels(x) != self._channels(first):
                raise NetError(
                    f"all bottoms share the kernels and must have {self._channels(first)}"
                    f" channels and {len(first)} axes, got shape {x}."
                )
        for what, count in (("channels", self._channels(first)), ("num_output", self.num_output)):
            if count % self.group:
                raise NetError(f"{what} must be a multiple of group {self.group}, got {count}.")
        return [self._top_shape(x) for x in bottom_shapes]

    def _top_shape(self, x: Shape) -> Shape:
        spatial = x[self.channel_axis + 1 :]
        for size, window in zip(spatial, self.windows, strict=True):
            if window.extent > size + 2 * window.pad:
                raise NetError(
                    f"the kernel ({window.extent}) is larger than the padded image"
                    f" ({size} + 2 * {window.pad})."
                )
        out = [w.convolved(size) for size, w in zip(spatial, self.windows, strict=True)]
        return (*x[: self.channel_axis], self.num_output, *out)

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        kernel = [w.kernel for w in self.windows]
        channels = self._channels(bottom_shapes[0]) // self.group
        yield BlobSpec((self.num_output, channels, *kernel), self.weight_filler)
        if self.bias_term:
            yield BlobSpec((self.num_output,), self.bias_filler)

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        return [self._convolve(x) for x in bottoms]

    def _convolve(self, x: Tensor) -> Tensor:
        batch = x.shape[: self.channel_axis]
        if len(batch) != 1:
            x = x.reshape(-1, *x.shape[self.channel_axis :])
        y = convolution(x, *self.blobs, windows=self.windows, group=self.group)
        return y if len(batch) == 1 else y.reshape(*batch, *y.shape[1:])
