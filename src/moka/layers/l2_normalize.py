"""Features of unit length, with a learned scale."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from moka.layers.base import BlobSpec, Layer
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes, require_axes
from moka.schema import caffe_pb2
from moka.types import Shape


@layer("Normalize", bottoms=1, tops=1, message="norm_param", fork="SSD")
class Normalize(Layer):
    """Features divided by their L2 norm and multiplied by a learned scale:
    y = scale x / sqrt(sum x^2 + eps).

    Bottom and top: (N, C, ...). The sum runs over the channels at each position, or over the
    whole item with `across_spatial` (default). Blob: the scale, one number () if `channel_shared`
    (default), else (C,); filled by `scale_filler`, with 1 without one. Message: norm_param.
    Liu et al., 2015 (ParseNet); SSD's conv4_3_norm starts at 20.

    Errors: a bottom of less than two axes.
    """

    across_spatial: bool = option()
    scale_filler: caffe_pb2.FillerParameter = option()
    channel_shared: bool = option()
    eps: float = option(not_negative)

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        refuse_empty_axes(x, first=1)
        return [x]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        given = self.config.norm_param.HasField("scale_filler")
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = self.scale_filler if given else one
        yield BlobSpec(() if self.channel_shared else (x[1],), filler, "scale")

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, x.dim())) if self.across_spatial else (1,)
        norm = (x.square().sum(axes, keepdim=True) + self.eps).sqrt()
        scale = self.blobs[0]
        if not self.channel_shared:
            scale = scale.view(-1, *[1] * (x.dim() - 2))
        return x / norm * scale
