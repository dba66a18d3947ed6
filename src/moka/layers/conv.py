"""Layers that slide a learned kernel over the spatial axes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.activation import relu
from moka.layers.base import BlobSpec
from moka.layers.options import option, positive
from moka.layers.registry import DrawStyle, layer
from moka.layers.shapes import canonical_axis, refuse_empty_axes
from moka.layers.sliding import Sliding, convolved_sizes
from moka.layers.window import Window, covering, padding_of
from moka.schema import caffe_pb2
from moka.types import Shape

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_DECONVOLVE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_FEW = 8  # channels: see `_steps_over_pixels`


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, windows: Sequence[Window], group: int
) -> Tensor:
    """Cross-correlate x (N, C, spatial...) with weight (M, C/group, kernel...); bias (M,).

    Returns (N, M, spatial...), sizes rounded down. Without spatial axes this is an inner product
    over the channels. With more than three, which PyTorch does not have, the windows are laid out
    as columns and multiplied.

    Args:
        windows: one for each spatial axis.
    """
    if not windows:
        return convolution(x[..., None], weight[..., None], bias, windows=[Window(1)], group=group)[
            ..., 0
        ]
    if len(windows) not in _CONVOLVE:
        return _convolution_of_columns(x, weight, bias, windows, group)
    windows, is_even, steps_over_pixels = _kind(tuple(windows), tuple(x.shape[2:]))
    if not is_even:
        x, windows = padded(x, windows)
    if steps_over_pixels and min(weight.shape[1], len(weight) // group) < _FEW:
        steps = (1, 1, *(w.stride for w in windows))
        x = x[tuple(slice(None, None, step) for step in steps)]
        windows = [Window(1)] * len(windows)
    return _CONVOLVE[len(windows)](
        x,
        weight,
        bias,
        *_arguments(tuple(x.shape[2:]), tuple(windows)),
        group,
    )


@functools.lru_cache(maxsize=1024)
def _kind(windows: tuple[Window, ...], size: Shape) -> tuple[Sequence[Window], bool, bool]:
    """`covering`, `all_even` and `_steps_over_pixels`. Each time they would take a tenth of a small
    pass."""
    covers = covering(windows, size)
    return covers, all_even(covers), _steps_over_pixels(covers)


def _steps_over_pixels(windows: Sequence[Window]) -> bool:
    """Whether a kernel has one pixel and a stride.

    oneDNN 3.12 (PyTorch 2.13) writes beyond its memory for the gradient of such a kernel, if it
    reads few channels, or makes few, the channels lie last, and the last pixels are not read.
    """
    one_pixel = all(w.kernel == 1 and w.pad == w.after == 0 for w in windows)
    return one_pixel and any(w.stride > 1 for w in windows)


def all_even(windows: Sequence[Window]) -> bool:
    """Whether opposite sides of the image are padded alike, which is all that PyTorch does."""
    return all(w.pad == w.after for w in windows)


def padded(x: Tensor, windows: Sequence[Window]) -> tuple[Tensor, list[Window]]:
    """x with its padding of zeros in place, and the windows without it."""
    return F.pad(x, padding_of(windows)), [w.unpadded for w in windows]


@functools.lru_cache(maxsize=1024)
def _arguments(size: Shape, windows: tuple[Window, ...]) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding and dilation along each axis.

    A stride longer than the padded image is cut to its size, which gives the same result:
    PyTorch's kernels crash on longer ones.
    """
    return (
        [min(w.stride, n + 2 * w.pad) for n, w in zip(size, windows, strict=True)],
        [w.pad for w in windows],
        [w.dilation for w in windows],
    )


def _convolution_of_columns(
    x: Tensor, weight: Tensor, bias: Tensor | None, windows: Sequence[Window], group: int
) -> Tensor:
    """`convolution` as one matrix product per group, as BVLC Caffe computes it."""
    columns = im2col(x, windows)
    out = columns.shape[2:]
    y = weight.reshape(group, -1, prod(weight.shape[1:])) @ columns.reshape(
        len(x), group, prod(weight.shape[1:]), prod(out)
    )
    if bias is not None:
        y = y + bias.reshape(group, -1, 1)
    return y.reshape(len(x), len(weight), *out)


def deconvolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, windows: Sequence[Window], group: int
) -> Tensor:
    """The transpose of `convolution`: x (N, C, spatial...), weight (C, M/group, kernel...), bias
    (M,). Returns (N, M, spatial...), each size stride (in - 1) + extent - 2 pad."""
    if not windows:
        return deconvolution(
            x[..., None], weight[..., None], bias, windows=[Window(1)], group=group
        )[..., 0]
    if len(windows) not in _DECONVOLVE:
        return _deconvolution_of_columns(x, weight, bias, windows, group)
    if not all_even(windows):
        whole = [w.unpadded for w in windows]
        y = deconvolution(x, weight, bias, windows=whole, group=group)
        return F.pad(y, [-side for side in padding_of(windows)])
    return _DECONVOLVE[len(windows)](
        x,
        weight,
        bias,
        stride=[w.stride if n > 1 else 1 for n, w in zip(x.shape[2:], windows, strict=True)],
        padding=[w.pad for w in windows],
        dilation=[w.dilation for w in windows],
        groups=group,
    )


def _deconvolution_of_columns(
    x: Tensor, weight: Tensor, bias: Tensor | None, windows: Sequence[Window], group: int
) -> Tensor:
    """`deconvolution` for more than three spatial axes: autograd transposes a `convolution`."""
    sizes = [w.deconvolved(n) for n, w in zip(x.shape[2:], windows, strict=True)]
    zeros = x.new_zeros(len(x), weight.shape[1] * group, *sizes)
    transpose = torch.func.vjp(
        lambda y: convolution(y, weight, windows=windows, group=group), zeros
    )[1]
    (y,) = transpose(x)
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(windows))


def _sizes(spatial: Shape, windows: Sequence[Window]) -> list[int]:
    return convolved_sizes(spatial, covering(windows, spatial))


DRAWN = DrawStyle("#FF5050", edge="{num_output}", window=True, rates=True)

# The facts that Convolution, its reverse and the forks' variants have in common.
convolution_layer = functools.partial(
    layer,
    bottoms=(1, None),
    tops=(1, None),
    message="convolution_param",
    one_top_each=True,
    spares_top=True,
    coordinates="window",
    drawn=DRAWN,
)


@convolution_layer("Convolution", aliases=("LibDNNConvolution",))
class Convolution(Sliding):
    """Convolution with learned kernels: y[m] = b[m] + sum over c of w[m, c] * x[c].

    Bottoms: each (N..., C, spatial...); axes before `axis` are batch axes. All bottoms share the
    parameters. Tops: (N..., num_output, spatial...) with
    size = (in + 2 pad - (dilation (kernel - 1) + 1)) / stride + 1, the quotient rounded towards 0.
    A kernel that reaches less than a stride beyond the padded image reads zeros there.
    Blobs: weight (num_output, C/group, kernel...), bias (num_output,) unless bias_term: false.
    Message: convolution_param. `engine` and `force_nd_im2col` choose an implementation in BVLC
    Caffe; here they have no effect. Forks spell the window in more ways, see
    `moka.layers.sliding`. With `relu: true` (Intel) the top is max(y, 0) + negative_slope
    min(y, 0); `fuse_type: FUSED_CONV_RELU` (OpenCL branch) means the same, with the slope of
    `relu_param` inside convolution_param.

    Errors: no kernel size; C or num_output is not a multiple of group; a kernel larger than
    the padded image by a stride or more; an axis of size 0 that is not a batch axis.
    """

    num_output: int = option(positive, required=True)
    bias_term: bool = option()
    group: int = option(positive)
    weight_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    engine: str = option()
    relu: bool = option()
    negative_slope: float = option()
    fuse_type: str = option()
    relu_param: caffe_pb2.ReLUParameter = option()

    def setup(self, x: Shape, *others: Shape) -> None:
        super().setup(x)
        self.channels = self._channels(x)
        self.slope = self._slope()
        self.spares_top &= self.slope is None

    def _slope(self) -> float | None:
        """The negative slope of the rectifier at the end; None if there is none."""
        if self.fuse_type == "FUSED_CONV_RELU":
            return self.relu_param.negative_slope
        if self.fuse_type != "UNFUSED":
            raise NetError(f"fuse_type {self.fuse_type} is not supported: write the sum of two"
                           " blobs as an Eltwise layer.")  # fmt: skip
        return self.negative_slope if self.relu else None

    def _channels(self, x: Shape) -> int:
        return x[self.channel_axis]

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        axes = self.channel_axis + 1 + len(self.windows)
        for x in bottom_shapes:
            if len(x) != axes or self._channels(x) != self.channels:
                raise NetError(
                    f"Input size incompatible with convolution kernel: the bottoms share the"
                    f" kernels and must have {self.channels} channels and {axes} axes, got shape"
                    f" {x}."
                )
            refuse_empty_axes(x, first=self.channel_axis)
        for what, count in (("channels", self.channels), ("num_output", self.num_output)):
            if count % self.group:
                raise NetError(f"{what} must be a multiple of group {self.group}, got {count}.")
        return [self._top_shape(x) for x in bottom_shapes]

    def _top_shape(self, x: Shape) -> Shape:
        out = _sizes(x[self.channel_axis + 1 :], self.windows)
        return (*x[: self.channel_axis], self.num_output, *out)

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        kernel = [w.kernel for w in self.windows]
        channels = self._channels(bottom_shapes[0]) // self.group
        yield BlobSpec((self.num_output, channels, *kernel), self.weight_filler)
        if self.bias_term:
            yield BlobSpec((self.num_output,), self.bias_filler)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self._uses(tops) * self.weights_unseen()[0].numel()

    def _uses(self, shapes: Sequence[Shape]) -> int:
        """How often each weight is used: once at each place of these images."""
        return sum(prod(x[: self.channel_axis] + x[self.channel_axis + 1 :]) for x in shapes)

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        tops = [self._over_batch_axes(x) for x in bottoms]
        if self.slope is None:
            return tops
        return [relu(y, negative_slope=self.slope) for y in tops]

    def _over_batch_axes(self, x: Tensor) -> Tensor:
        batch = x.shape[: self.channel_axis]
        if len(batch) == 1:
            return self.compute(x)
        y = self.compute(x.reshape(prod(batch), *x.shape[self.channel_axis :]))
        return y.reshape(*batch, *y.shape[1:])

    def compute(self, x: Tensor) -> Tensor:
        """The operation on one batch axis: (N, C, spatial...) to (N, num_output, spatial...)."""
        return convolution(x, *self.multiplied(), windows=self.windows, group=self.group)

    def multiplied(self) -> list[Tensor]:
        """Weight and bias as they are multiplied, for types that change them on the way."""
        return self.blobs


@convolution_layer("Deconvolution", coordinates="transposed window")
class Deconvolution(Convolution):
    """Transposed convolution: the gradient of a Convolution, as a forward pass.

    Bottoms: each (N..., C, spatial...). Tops: (N..., num_output, spatial...) with
    size = stride (in - 1) + dilation (kernel - 1) + 1 - 2 pad.
    Blobs: weight (C, num_output/group, kernel...), bias (num_output,). Message: convolution_param.
    With the bilinear filler, group = channels and no bias it enlarges images.

    Errors: those of Convolution; an output without pixels.
    """

    def _top_shape(self, x: Shape) -> Shape:
        spatial = x[self.channel_axis + 1 :]
        out = [w.deconvolved(size) for size, w in zip(spatial, self.windows, strict=True)]
        if out and min(out) < 1:
            raise NetError(f"the padding leaves no output: its size is {out}.")
        return (*x[: self.channel_axis], self.num_output, *out)

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        kernel = [w.kernel for w in self.windows]
        channels = self._channels(bottom_shapes[0])
        yield BlobSpec((channels, self.num_output // self.group, *kernel), self.weight_filler)
        if self.bias_term:
            yield BlobSpec((self.num_output,), self.bias_filler)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self._uses(bottoms) * self.weights_unseen()[0].numel()

    def compute(self, x: Tensor) -> Tensor:
        return deconvolution(x, *self.blobs, windows=self.windows, group=self.group)


def im2col(x: Tensor, windows: Sequence[Window]) -> Tensor:
    """Every window of x (N..., C, spatial...) as a column, (N..., C * kernel..., out...): the
    channel varies slowest, then the position inside the kernel, row by row."""
    axes = len(windows)
    first = x.dim() - axes
    windows = covering(windows, x.shape[first:])
    views, _ = padded(x, windows)
    for axis, w in enumerate(windows, first):
        views = views.unfold(axis, w.extent, w.stride)[..., :: w.dilation]
    columns = views.movedim(tuple(range(-axes, 0)), tuple(range(first, x.dim())))
    return columns.flatten(first - 1, x.dim() - 1)


@layer("Im2col", bottoms=1, tops=1, message="convolution_param", coordinates="window")
class Im2col(Sliding):
    """Every window of an image as a column.

    Bottom: (N..., C, spatial...); axes before `axis` are batch axes. Top: (N..., C * product of
    the kernel's sizes, spatial...), with Convolution's sizes. Message: convolution_param, of which
    only `axis` and the options of the window count; `force_nd_im2col` has no effect.

    Errors: no kernel size; no spatial axis; a kernel larger than the padded image by a
    stride or more.
    """

    def setup(self, x: Shape, *others: Shape) -> None:
        if canonical_axis(self.axis, x) == len(x) - 1:
            raise NetError(f"needs spatial axes after axis {self.axis}, got shape {x}.")
        super().setup(x)

    def top_shapes(self, x: Shape) -> list[Shape]:
        axes = self.channel_axis + 1 + len(self.windows)
        if len(x) != axes:
            raise NetError(f"was made for bottoms of {axes} axes, got shape {x}.")
        columns = prod((x[self.channel_axis], *(w.kernel for w in self.windows)))
        out = _sizes(x[self.channel_axis + 1 :], self.windows)
        return [(*x[: self.channel_axis], columns, *out)]

    def forward(self, x: Tensor) -> Tensor:
        return im2col(x, self.windows)
