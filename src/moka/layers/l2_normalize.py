"""Layers that bring features to unit length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
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
        axes = tuple(range(1, x.dim())) if self.across_spatial else (1,)
        norm = (x.square().sum(axes, keepdim=True) + self.eps).sqrt()
        scale = self.blobs[0].detach() if self.fix_scale else self.blobs[0]
        if not self.channel_shared:
            scale = scale.view(-1, *[1] * (x.dim() - 2))
        return [x / norm * scale]

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
        axes = tuple(range(1, x.dim()))
        squares = x.square().sum(axes, keepdim=True) if axes else x.square()
        return x / squares.clamp(min=torch.finfo(x.dtype).tiny).sqrt()
