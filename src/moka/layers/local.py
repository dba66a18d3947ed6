"""A convolution whose weights differ from place to place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.conv import DRAWN, im2col
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.layers.sliding import convolved_sizes
from moka.layers.window import Window
from moka.schema import caffe_pb2
from moka.types import Shape


@layer(
    "Local",
    bottoms=1,
    tops=1,
    other_messages=("local_conv_param",),
    aliases=("LocalConv",),
    fork="caffe-windows",
    coordinates="window",
    drawn=DRAWN,
)
class Local(Layer):
    """Convolution with weights of its own at each place of the top (unshared).

    y[m, p] = the sum over k of W[m, k, p] times value k of the patch at place p, plus b[m, p].

    Bottom: (N, C, H, W). Top: (N, num_output, h, w) with Convolution's sizes, P = h w places.
    Blobs: weight (num_output, 1, K, P), K = C kernel_size^2 in the order channel, row, column; bias
    (1, 1, num_output, P) unless bias_term: false. Message: local_param, or
    local_conv_param.

    Errors: a bottom of other sizes than the weights were made for; a kernel larger than the padded
    image.
    """

    num_output: int = option(positive, required=True)
    bias_term: bool = option()
    pad: int = option()
    kernel_size: int = option(positive, required=True)
    stride: int = option(positive)
    weight_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()

    def setup(self, x: Shape) -> None:
        self.item = x[1:]
        self.windows = [Window(self.kernel_size, self.stride, self.pad)] * 2

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4 or x[1:] != self.item:
            raise NetError(
                f"takes images (N, C, H, W), as large as the weights were made for, got shape {x}."
            )
        refuse_empty_axes(x, first=1)
        return [(x[0], self.num_output, *convolved_sizes(x[2:], self.windows))]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        patch, places = x[1] * self.kernel_size**2, prod(self.top_shapes(x)[0][2:])
        yield BlobSpec((self.num_output, 1, patch, places), self.weight_filler)
        if self.bias_term:
            yield BlobSpec((1, 1, self.num_output, places), self.bias_filler)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return tops[0][0] * self.weights_unseen()[0].numel()

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs
        shape = self.top_shapes(tuple(x.shape))[0]
        patches = im2col(x, self.windows).reshape(len(x), weight.shape[2], weight.shape[3])
        y = torch.einsum("mkp,nkp->nmp", weight[:, 0], patches)
        return (y + bias[0][0] if bias else y).reshape(shape)
