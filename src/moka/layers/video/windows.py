"""Convolution and pooling whose windows also span time, or the third axis of a volume."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec
from moka.layers.conv import (
    Convolution,
    Deconvolution,
    convolution,
    convolution_layer,
    deconvolution,
)
from moka.layers.options import option, positive
from moka.layers.pooling import Pooling
from moka.layers.registry import DrawStyle, layer
from moka.types import Shape

DRAWN_POOLING = DrawStyle("#FF9900", kind="{pool}", window=True)


@convolution_layer("NdConvolution", fork="video-caffe")
class NdConvolution(Convolution):
    """A Convolution whose window `kernel_shape`, `stride_shape` and `pad_shape` list per axis.

    Bottoms, tops, blobs and errors: those of Convolution; for videos (N, C, time, H, W).
    Tran et al., 2015 (C3D).
    """


@layer(
    "NdPooling",
    bottoms=1,
    tops=1,
    message="pooling_param",
    bfloat16="keeps",
    coordinates="window",
    fork="video-caffe",
    drawn=DRAWN_POOLING,
)
class NdPooling(Pooling):
    """A Pooling whose window `kernel_shape`, `stride_shape` and `pad_shape` list per axis, and
    whose sizes are rounded down.

    Bottom: (N, C, spatial...), up to three spatial axes. Top: (N, C, spatial...) with
    size = floor((in + 2 pad - kernel) / stride) + 1. Options and errors: those of Pooling.

    video-caffe leaves out the axes of size 1 behind the channels of its top; here they stay.
    """

    def setup(self, x: Shape) -> None:
        super().setup(x)
        self.rounds_up = False


class InTime:
    """What the types of C3D have in common: videos (N, C, time, H, W), and a message of their own
    whose sizes are single numbers."""

    def take_sizes(self, x: Shape) -> None:
        """Check the bottom, and bring sizes from C3D's own message into Convolution's form."""
        if len(x) != 5:
            raise NetError(f"takes videos (N, C, time, H, W), got a bottom of shape {x}.")
        for name in ("kernel_size", "stride", "pad"):
            value = getattr(self, name)
            if isinstance(value, int):
                setattr(self, name, (value,))


def _with_wide_bias(specs: Iterable[BlobSpec]) -> Iterable[BlobSpec]:
    """The same parameters with C3D's shape of the bias, (1, 1, 1, 1, M)."""
    for spec in specs:
        wide = (1, 1, 1, 1, *spec.shape) if len(spec.shape) == 1 else spec.shape
        yield spec._replace(shape=wide)


@convolution_layer("Convolution3D", other_messages=("convolution3d_param",), fork="C3D")
class Convolution3D(InTime, Convolution):
    """A Convolution in time and space: `kernel_depth`, `temporal_stride` and `temporal_pad` are
    its window in time, `kernel_size`, `stride` and `pad` that in space.

    Bottoms: each (N, C, time, H, W). Tops: (N, num_output, time, H, W), with Convolution's sizes.
    Blobs: weight (num_output, C/group, kernel_depth, kernel_size, kernel_size),
    bias (1, 1, 1, 1, num_output) unless bias_term: false. Message: convolution3d_param (C3D 1.1)
    or convolution_param (C3D 1.0); `filter_group` splits the work in C3D and has no effect here.
    Tran et al., 2015.

    Errors: a bottom of other than five axes; those of Convolution.
    """

    filter_group: int = option(positive)

    def setup(self, x: Shape, *others: Shape) -> None:
        self.take_sizes(x)
        super().setup(x)

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        return _with_wide_bias(super().blob_specs(*bottom_shapes))

    def compute(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs
        flat = (b.reshape(-1) for b in bias)
        return convolution(x, weight, *flat, windows=self.windows, group=self.group)


@convolution_layer(
    "Deconvolution3D",
    other_messages=("convolution3d_param",),
    coordinates="transposed window",
    fork="C3D",
)
class Deconvolution3D(InTime, Deconvolution):
    """A Deconvolution in time and space, with the options of Convolution3D.

    Bottoms: each (N, C, time, H, W). Tops: (N, num_output, time, H, W), with Deconvolution's
    sizes. Blobs: weight (C, num_output/group, kernel_depth, kernel_size, kernel_size),
    bias (1, 1, 1, 1, num_output) unless bias_term: false. Message: as Convolution3D;
    `filter_group` is another name of `group`.

    Errors: a bottom of other than five axes; group and filter_group that differ; those of
    Deconvolution.
    """

    filter_group: int = option(positive)

    def setup(self, x: Shape, *others: Shape) -> None:
        self.take_sizes(x)
        self._take_filter_group()
        super().setup(x)

    def _take_filter_group(self) -> None:
        if 1 != self.group != self.filter_group != 1:
            raise NetError(
                f"filter_group means the same as group: give one of them, got {self.filter_group}"
                f" and {self.group}."
            )
        self.group = max(self.group, self.filter_group)

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        return _with_wide_bias(super().blob_specs(*bottom_shapes))

    def compute(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs
        flat = (b.reshape(-1) for b in bias)
        return deconvolution(x, weight, *flat, windows=self.windows, group=self.group)


@layer(
    "Pooling3D",
    bottoms=1,
    tops=1,
    message="pooling_param",
    other_messages=("pooling3d_param",),
    bfloat16="keeps",
    coordinates="window",
    fork="C3D",
    drawn=DRAWN_POOLING,
)
class Pooling3D(Pooling):
    """A Pooling in time and space: `kernel_depth` and `temporal_stride` are its window in time,
    `kernel_size`, `stride` and `pad` that in space.

    Bottom: (N, C, time, H, W). Top: (N, C, time, H, W) with
    size = ceil((in + 2 pad - kernel) / stride) + 1, also where the last window lies in the padding.
    `pad` is for AVE only, and `pool` does what it does in Pooling. Message: pooling3d_param
    (C3D 1.1) or pooling_param (C3D 1.0). Tran et al., 2015.

    Errors: a bottom of other than five axes; a pad with another method than AVE; those of Pooling.
    """

    clips: ClassVar[bool] = False

    def setup(self, x: Shape) -> None:
        if len(x) != 5:
            raise NetError(f"takes videos (N, C, time, H, W), got a bottom of shape {x}.")
        super().setup(x)
        padded = not self.global_pooling and any(w.pad for w in self.windows)
        if padded and self.pool != "AVE":
            raise NetError(f"pad is for AVE pooling only, got pool: {self.pool}.")
