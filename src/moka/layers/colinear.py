"""Convolution with a quadratic term."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec
from moka.layers.conv import DRAWN, convolution, im2col
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.layers.sliding import Sliding, convolved_sizes
from moka.layers.window import Window
from moka.schema import caffe_pb2
from moka.types import Shape


def quadratic_form(x: Tensor, q: Tensor, *, windows: Sequence[Window]) -> Tensor:
    """p' Q[m] p for each patch p of x (N, C, spatial...) and each Q[m] of q (M, K, K).

    K is C * kernel...; returns (N, M, spatial...).
    """
    columns = im2col(x, windows)
    out = columns.shape[2:]
    patches = columns.reshape(len(x), q.shape[-1], prod(out))
    values = torch.einsum("mij,nip,njp->nmp", q, patches, patches)
    return values.reshape(len(x), len(q), *out)


def _unused(config: caffe_pb2.LayerParameter) -> tuple[int, ...]:
    """The blobs of terms that are off: they are there, but nothing trains them."""
    param = config.colinear_convolution_param
    used = (param.bias_term, param.linear_term, param.quadratic_term)
    return tuple(k for k, on in enumerate(used) if not on)


@layer(
    "ColinearConvolution",
    bottoms=1,
    tops=1,
    message="colinear_convolution_param",
    other_messages=("convolution_param",),
    state_blobs=_unused,
    fork="a fork of 2014",
    coordinates="window",
    drawn=DRAWN,
)
class ColinearConvolution(Sliding):
    """Convolution with a quadratic term: y[m] = p' Q[m] p + l[m]' p + b[m] for each patch p.

    Bottom: (N, C, spatial...). Top: (N, num_output, spatial...), with Convolution's sizes.
    Blobs, in this order whatever the terms: bias (num_output,); linear weight (num_output, C/group,
    kernel...); and with K = C * kernel... (groups are for the linear term only) the quadratic
    weights, (num_output, K, K), or with `factor` n > 0 vectors w, (num_output, n, K), and the
    quadratic term is the sum over n of (w[m, n]' p)^2. `bias_term`, `linear_term` and
    `quadratic_term: false` leave the term out; its blob stays and is not trained.
    Message: colinear_convolution_param: window, group, num_output,
    bias_term and bias_filler as in Convolution; quadratic_weight_filler, linear_weight_filler.
    `symmetric` has no effect: p' Q p and its gradient depend on the symmetric part of Q only.

    Errors: no kernel size; C or num_output is not a multiple of group; a kernel larger than the
    padded image; neither a quadratic nor a linear term.
    """

    num_output: int = option(positive, required=True)
    bias_term: bool = option()
    group: int = option(positive)
    bias_filler: caffe_pb2.FillerParameter = option()
    engine: str = option()
    quadratic_weight_filler: caffe_pb2.FillerParameter = option()
    linear_weight_filler: caffe_pb2.FillerParameter = option()
    symmetric: bool = option()
    factor: int = option()
    quadratic_term: bool = option()
    linear_term: bool = option()

    def setup(self, x: Shape, *others: Shape) -> None:
        super().setup(x)
        if self.channel_axis != 1:
            raise NetError(f"axis must be 1, got {self.axis}.")
        if not (self.quadratic_term or self.linear_term):
            raise NetError("needs a quadratic or a linear term.")
        self.channels = x[1]

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 2 + len(self.windows) or x[1] != self.channels:
            raise NetError(
                f"the weights are for {self.channels} channels and {2 + len(self.windows)} axes,"
                f" got shape {x}."
            )
        refuse_empty_axes(x, first=1)
        for what, count in (("channels", self.channels), ("num_output", self.num_output)):
            if count % self.group:
                raise NetError(f"{what} must be a multiple of group {self.group}, got {count}.")
        return [(x[0], self.num_output, *convolved_sizes(x[2:], self.windows))]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        kernel = tuple(w.kernel for w in self.windows)
        yield BlobSpec((self.num_output,), self.bias_filler, "bias")
        linear = (self.num_output, x[1] // self.group, *kernel)
        yield BlobSpec(linear, self.linear_weight_filler, "weight")
        patch = x[1] * prod(kernel)
        quadratic = (self.num_output, self.factor or patch, patch)
        yield BlobSpec(quadratic, self.quadratic_weight_filler, "quadratic_weight")

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        _, linear, quadratic = (w.numel() for w in self.weights_unseen())
        used = linear * self.linear_term + quadratic * self.quadratic_term
        return prod(tops[0][2:]) * tops[0][0] * used

    def forward(self, x: Tensor) -> Tensor:
        bias, linear, quadratic = self.blobs
        terms = []
        if self.quadratic_term:
            terms.append(self._quadratic(x, quadratic))
        if self.linear_term:
            terms.append(convolution(x, linear, windows=self.windows, group=self.group))
        if self.bias_term:
            terms.append(bias.reshape(-1, *(1,) * len(self.windows)))
        return sum(terms[1:], terms[0])

    def _quadratic(self, x: Tensor, weight: Tensor) -> Tensor:
        if not self.factor:
            return quadratic_form(x, weight, windows=self.windows)
        kernel = (self.channels, *(w.kernel for w in self.windows))
        products = convolution(x, weight.reshape(-1, *kernel), windows=self.windows, group=1)
        each = products.reshape(len(x), self.num_output, self.factor, *products.shape[2:])
        return each.square().sum(2)
