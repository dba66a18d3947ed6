"""Layers that bring features to unit length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.batch_statistics import over_channels
from moka.layers.gradient import with_gradient_of
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes, require_axes
from moka.schema import caffe_pb2
from moka.types import Array, Shape


@layer(
    "Normalize",
    bottoms=1,
    tops=(1, 2),
    message="norm_param",
    other_messages=("normalize_param",),
    other_counts={
        (0, 1): "The file's Normalize layer has no scale, as caffe-windows' and caffe-face's: give"
        " the layer normalize_param { }."
    },
    fork="SSD",
)
class Normalize(Layer):
    """Features divided by their norm.

    With norm_param (SSD, ParseNet): y = scale x / sqrt(sum x^2 + eps). The sum runs over the
    channels at each position, or over the whole item with `across_spatial` (default). Blob: the
    scale, one number () if channel_shared (default), else (C,); filled by scale_filler, with 1
    without one; fix_scale: true keeps it as it is.

    With normalize_param (caffe-windows): y = x / norm, the norm over the channels at each position:
    normalize_type L2 (default) or L1. No blob. fix_gradient: the gradient takes the norm for a
    constant; bp_norm: the norm that is the second top hands its gradient on.

    A layer without either message is SSD's. If a model has no blob for it, and it has one position
    an item, so that both forms are the same, its scale is 1.

    Bottom and top: (N, C, ...). With normalize_param a second top is the norm (N, 1, ...).
    Liu et al., 2015 (ParseNet); SSD's conv4_3_norm starts at 20.

    Errors: a bottom of less than two axes; another normalize_type.

    As in SSD, the gradient goes through the norm as if all scales were 1, and is then multiplied by
    them: with channel_shared: false that is not the derivative where the scales differ.
    """

    across_spatial: bool = option()
    scale_filler: caffe_pb2.FillerParameter = option()
    channel_shared: bool = option()
    eps: float = option(not_negative)
    fix_scale: bool | None = option(unset_is_none=True)
    normalize_type: str = option()
    fix_gradient: bool = option()
    bp_norm: bool = option()

    def setup(self, x: Shape) -> None:
        self.scaled = not self.config.HasField("normalize_param")
        if self.normalize_type not in ("L2", "L1"):
            raise NetError(f'normalize_type must be L2 or L1, got "{self.normalize_type}".')

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        refuse_empty_axes(x, first=1)
        return [x] if self.scaled else [x, (x[0], 1, *x[2:])][: self.top_count]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        if not self.scaled:
            return
        given = self.config.norm_param.HasField("scale_filler")
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = self.scale_filler if given else one
        yield BlobSpec(() if self.channel_shared else (x[1],), filler, "scale")

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """A scale of 1 for the parameter-free form of other forks, if it computes the same."""
        says_form = any(self.config.HasField(name) for name in self.entry.messages)
        if stored or says_form or prod(self.first_top_shapes[0][2:]) != 1:
            return stored
        return {0: np.ones(self.blob_shapes[0], np.float32)}

    def forward(self, x: Tensor) -> list[Tensor]:
        if not self.scaled:
            return self._plain(x)
        blob = self.blobs[0].detach() if self.fix_scale else self.blobs[0]
        scale = over_channels(blob, x)
        if self.channel_shared or not x.requires_grad:
            return [self._unit(x) * scale]
        # SSD multiplies the gradient by the scale after it has gone through the norm, not before
        unit = self._unit(with_gradient_of(x, x * scale.detach()))
        return [with_gradient_of(unit.detach() * scale.detach(), unit + unit.detach() * scale)]

    def _unit(self, x: Tensor) -> Tensor:
        """x divided by its norm."""
        axes = tuple(range(1, x.dim())) if self.across_spatial else (1,)
        return x / (x.square().sum(axes, keepdim=True) + self.eps).sqrt()

    def _plain(self, x: Tensor) -> list[Tensor]:
        if self.normalize_type == "L2":
            norm = x.square().sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny).sqrt()
        else:
            norm = x.abs().sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        y = x / (norm.detach() if self.fix_gradient else norm)
        return [y, norm if self.bp_norm else norm.detach()][: self.top_count]


@layer("Normalization", bottoms=1, tops=1, coordinates="same", fork="caffe-triplet")
class Normalization(Layer):
    """Divide each item by its L2 norm: y = x / sqrt(sum of x^2).

    Bottom and top: (N, ...). No message. An item of zeros stays as it is; forks make it NaN. One of
    the forks, caffe-3d, makes tops (N, K) of whatever shape the items have.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(1, x)
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        return x / norm_over(x, tuple(range(1, x.dim())))


def norm_over(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The L2 norm over these axes, which stay with size 1; never 0."""
    squares = x.square().sum(axes, keepdim=True) if axes else x.square()
    return squares.clamp(min=torch.finfo(x.dtype).tiny).sqrt()


@layer("L2Norm", bottoms=1, tops=1, message="l2norm_param", coordinates="same", fork="many forks")
class L2Norm(Normalization):
    """Divide each item by its L2 norm: y = x / (sqrt(sum of x^2) + eps).

    Bottom and top: (N, ...). Message: l2norm_param (`eps`, 0 by default). An item of zeros stays as
    it is.

    So it is in Microsoft's Caffe (MSRCCS), caffe_retrieval and Face_Parsing_2016. A few forks
    divide each position by the norm over its channels, which is the same for items of one position;
    for larger ones write a Normalize layer with normalize_param { }.
    """

    eps: float = option(not_negative)

    def forward(self, x: Tensor) -> Tensor:
        return x / (norm_over(x, tuple(range(1, x.dim()))) + self.eps)


@layer("L2Normalization", bottoms=1, tops=1, coordinates="same", fork="many forks")
class L2Normalization(Normalization):
    """Divide each item (N, C), (N, C, 1, 1) by its L2 norm: y = x / sqrt(sum of x^2).

    No message. An item of zeros stays as it is.

    Errors: items of several positions, since the forks differ: some divide each position by the
    norm over its channels, as a Normalize layer with normalize_param { } does, some the whole item,
    as a Normalization layer does.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(1, x)
        if prod(x[2:]) != 1:
            raise NetError(
                f"forks differ in what they do to items of several positions, as in {x}: write"
                ' type: "Normalization" to divide whole items, or type: "Normalize"'
                " normalize_param { } to divide each position."
            )
        return [x]


EPS = 1e-6  # added to the norm


@layer("Norm", bottoms=1, tops=1, coordinates="same", fork="caffe-video_triplet")
class Norm(Layer):
    """Divide each position by the L2 norm over its channels: y = x / (sqrt(sum of x^2) + 1e-6).

    Bottom and top: (N, C, ...). No message. Wang and Gupta, 2015.

    The gradient is exact; the fork's leaves the 1e-6 out but for a guard against 0.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        return x / (norm_over(x, (1,)) + EPS)
