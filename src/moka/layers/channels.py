"""Layers that weight, multiply or add the channels of an image, as attention and gates do."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.batch_statistics import over_channels
from moka.layers.grid import require_images
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes, require_axes
from moka.schema import caffe_pb2
from moka.types import Shape


@layer("Axpy", bottoms=3, tops=1, coordinates="same", fork="SENet")
class Axpy(Layer):
    """Scale each channel of each item and add: f = a x + y.

    Bottoms: a (N, C) or (N, C, 1, 1); x and y (N, C, ...) of one shape. Top: that shape. No
    message. Hu et al., 2017.

    Errors: x and y of different shapes; an a that has not one value for each item and channel.
    """

    def top_shapes(self, a: Shape, x: Shape, y: Shape) -> list[Shape]:
        if x != y:
            raise NetError(f"x and y differ in shape: {x} and {y}.")
        if len(x) < 2 or a[:2] != x[:2] or prod(a[2:]) != 1:
            raise NetError(
                f"the first bottom must have one value for each item and channel of {x}, got shape"
                f" {a}."
            )
        return [x]

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.addcmul(y, a.reshape(*x.shape[:2], *(1,) * (x.dim() - 2)), x)


@layer("Maxout", bottoms=1, tops=(1, 2), coordinates="same", fork="a fork of 2015")
class Maxout(Layer):
    """The largest of each chgroup_sz channels next to each other, at each position; with minout the
    smallest.

    Bottom: (N, C, H, W). Tops: (N, C / chgroup_sz, H, W); optionally where the value comes from in
    its image, (c H + h) W + w (no gradient). Of equal values the first gets the gradient. Message:
    maxout_param. Goodfellow et al., 2013.

    Errors: no chgroup_sz, or one that does not divide C; a bottom that is not 4-D.

    The fork's minout gives the lowest number in place of the smallest value.
    """

    chgroup_sz: int = option(positive, required=True)
    minout: bool = option()

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_images(x)
        if x[1] % self.chgroup_sz:
            raise NetError(
                f"chgroup_sz {self.chgroup_sz} should divide the {x[1]} channels of the bottom."
            )
        return [(x[0], x[1] // self.chgroup_sz, *x[2:])] * self.top_count

    def forward(self, x: Tensor) -> list[Tensor]:
        n, c, h, w = x.shape
        groups = x.reshape(n, c // self.chgroup_sz, self.chgroup_sz, h, w)
        best, member = (groups.min if self.minout else groups.max)(2)
        if self.top_count == 1:
            return [best]
        first = torch.arange(0, c, self.chgroup_sz, device=x.device)[:, None, None]
        pixel = torch.arange(h * w, device=x.device).view(h, w)
        return [best, ((first + member) * (h * w) + pixel).to(x)]


def _state(config: caffe_pb2.LayerParameter) -> tuple[int, ...]:
    return (0,) if config.channel_scale_param.global_scale else ()


@layer(
    "ChannelScale",
    bottoms=2,
    tops=(1, 2),
    coordinates="same",
    state_blobs=_state,
    fork="caffe-windows",
)
class ChannelScale(Layer):
    """Multiply all channels of a position by one factor: y = s x.

    Bottoms: x (N, C, ...); s, one value for each item and position. Top: the shape of x. Message:
    channel_scale_param. `do_forward: false` makes y = x; `do_backward_feature: false` passes the
    gradient of y on to x as it is; with `do_backward_scale: false` s takes no gradient.

    `global_scale: true` takes one factor for all positions instead of s: a blob (1,) that no
    solver trains, init_global_scale at first, brought into [min_global_scale, max_global_scale];
    a second top, if there is one, shows it.

    Errors: an s of another count; a second top without global_scale.
    """

    do_forward: bool = option()
    do_backward_feature: bool = option()
    do_backward_scale: bool = option()
    global_scale: bool = option()
    max_global_scale: float = option()
    min_global_scale: float = option()
    init_global_scale: float = option()

    def top_shapes(self, x: Shape, scale: Shape) -> list[Shape]:
        if len(x) < 2 or prod(scale) != prod(x[:1] + x[2:]) or scale[:1] != x[:1]:
            raise NetError(
                f"there must be one factor for each item and position of {x}, got shape {scale}."
            )
        return [x, (1,)][: self.top_count if self.global_scale else 1]

    def blob_specs(self, x: Shape, scale: Shape) -> Iterable[BlobSpec]:
        if self.global_scale:
            first = caffe_pb2.FillerParameter(value=self.init_global_scale)
            yield BlobSpec((1,), first, "factor")

    def forward(self, x: Tensor, scale: Tensor) -> list[Tensor]:
        factor = scale.reshape(x.shape[0], 1, *x.shape[2:])
        if self.global_scale:
            clamped = self.blobs[0].detach().clamp(self.min_global_scale, self.max_global_scale)
            return [self._with_gradients(x, clamped), clamped][: self.top_count]
        return [self._with_gradients(x, factor)]

    def _with_gradients(self, x: Tensor, factor: Tensor) -> Tensor:
        """The top, with the gradients that the options ask for."""
        y = x * factor if self.do_forward else x
        if self.do_forward and self.do_backward_feature and self.do_backward_scale:
            return y
        traced = x * factor.detach() if self.do_backward_feature else x
        if self.do_backward_scale:
            traced = traced + x.detach() * factor
        return y.detach() + (traced - traced.detach())


@layer("Gram", bottoms=1, tops=1, fork="caffe-windows")
class Gram(Layer):
    """The products of all pairs of channels: G[n] = X X' / (C K), X the item as C x K.

    Bottom: (N, C, ...), K values a channel. Top: (N, C, C, 1). No message. The gradient is that of
    the product; the fork's holds for symmetric gradients only. Gatys et al., 2015.

    Errors: a bottom with one axis.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        refuse_empty_axes(x, first=1)
        return [(x[0], x[1], x[1], 1)]

    def forward(self, x: Tensor) -> Tensor:
        n, c, k = *x.shape[:2], prod(x.shape[2:])
        rows = x.reshape(n, c, k)
        return (rows @ rows.transpose(1, 2) / (c * k))[..., None]


@layer("Slope", bottoms=1, tops=1, coordinates="same", fork="caffe-windows")
class Slope(Layer):
    """Add two channels that say where a pixel lies: its row / H and its column / W.

    Bottom: (N, C, H, W). Top: (N, C + 2, H, W). No message.

    Errors: a bottom that is not 4-D.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        return [(x[0], x[1] + 2, *x[2:])]

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        rows, columns = (torch.arange(size, device=x.device) / size for size in (height, width))
        places = torch.stack([rows[:, None].expand(height, width), columns.expand(height, width)])
        return torch.cat([x, places.to(x).expand(n, 2, height, width)], 1)


@layer("EltwiseAffine", bottoms=1, tops=1, coordinates="same", fork="caffe-windows")
class EltwiseAffine(Layer):
    """Multiply each channel by a slope and add a bias: y = a x + b.

    Bottom and top: (N, C, ...). Blobs: the slopes and the biases, each (C,), or one number () with
    channel_shared; filled by slope_filler, with 1.0001 without one, and by bias_filler, with 0.0001
    without one. In-place works. Message: eltwise_affine_param.

    Errors: a bottom of less than two axes.
    """

    slope_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    channel_shared: bool = option()

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        refuse_empty_axes(x, first=1)
        return [x]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        shape = () if self.channel_shared else (x[1],)
        given = self.config.eltwise_affine_param
        for name, filler, default in (
            ("slope", self.slope_filler, 1.0001),
            ("bias", self.bias_filler, 0.0001),
        ):
            if not given.HasField(f"{name}_filler"):
                filler = caffe_pb2.FillerParameter(type="constant", value=default)
            yield BlobSpec(shape, filler, name)

    def forward(self, x: Tensor) -> Tensor:
        slope, bias = (over_channels(blob, x) for blob in self.blobs)
        return torch.addcmul(bias, x, slope)
