"""Layers that multiply by a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.activation import relu
from moka.layers.base import BlobSpec, Layer
from moka.layers.labels import indices
from moka.layers.options import option, positive
from moka.layers.registry import DrawStyle, layer
from moka.layers.shapes import canonical_axis, shape_text
from moka.schema import caffe_pb2
from moka.types import Shape

NORM_EPS = 1e-6


def inner_product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, axis: int, transpose: bool
) -> Tensor:
    """x (outer..., inner...) split at `axis`; weight (N, K), or (K, N) if transpose, K the
    product of inner; bias (N,). Returns (outer..., N)."""
    if x.dim() != axis + 1:
        x = x.reshape(*x.shape[:axis], prod(x.shape[axis:]))
    return F.linear(x, weight.t() if transpose else weight, bias)


@layer(
    "InnerProduct",
    bottoms=(1, 3),
    tops=1,
    drawn=DrawStyle("#CC33FF", edge="{num_output}", rates=True),
    spares_top=True,
)
class InnerProduct(Layer):
    """Fully connected: y = x W^T + b. All axes from `axis` on count as one vector.

    Bottom: (outer..., inner...), K = product of inner. Top: (outer..., num_output).
    Blobs: weight (num_output, K), or (K, num_output) with transpose: true; bias (num_output,)
    unless bias_term: false. Message: inner_product_param.

    Forks: with `relu: true` (Intel) the top is max(y, 0) + negative_slope min(y, 0); with
    `normalize: true` (caffe-windows) each output's weights are divided by their L2 norm,
    sqrt(sum of w^2 + 1e-6). The gradient takes the division into account, and the stored weights
    stay as they are; the fork stores the divided ones and passes the gradient by. Two or three
    bottoms (caffe-windows): the second is the weight (num_output, K...), a third the bias
    (num_output,), and the layer has no blobs of these; both take gradients.

    Errors: a bottom with another K than the weights were made for; a weight or bias among the
    bottoms that does not fit; transpose with a weight among the bottoms.
    """

    num_output: int = option(positive, required=True)
    bias_term: bool = option()
    weight_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    axis: int = option()
    transpose: bool = option()
    relu: bool = option()
    negative_slope: float = option()
    normalize: bool = option()

    def setup(self, x: Shape, *given: Shape) -> None:
        self.inputs = prod(x[canonical_axis(self.axis, x) :])
        self.spares_top &= not self.relu
        if given and self.transpose:
            raise NetError("transpose: true is only for weights of the layer's own.")

    def top_shapes(self, x: Shape, *given: Shape) -> list[Shape]:
        split = canonical_axis(self.axis, x)
        inputs = prod(x[split:])
        if inputs != self.inputs:
            raise NetError(
                f"Input size incompatible with inner product parameters: the weights take"
                f" {self.inputs} inputs, a bottom of shape {shape_text(x)} has {inputs}."
            )
        for name, shape, wanted in zip(
            ("weight", "bias"), given, ((self.num_output, inputs), (self.num_output,)), strict=False
        ):
            if shape[:1] != wanted[:1] or prod(shape) != prod(wanted):
                raise NetError(f"the {name} among the bottoms must be {wanted}, got {shape}.")
        return [(*x[:split], self.num_output)]

    def blob_specs(self, x: Shape, *given: Shape) -> Iterable[BlobSpec]:
        n, k = self.num_output, self.inputs
        if not given:
            yield BlobSpec((k, n) if self.transpose else (n, k), self.weight_filler, "weight")
        if self.bias_term and len(given) < 2:
            yield BlobSpec((n,), self.bias_filler, "bias")

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * self.inputs

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        split = canonical_axis(self.axis, tuple(x.shape))
        blobs = self.multiplied(*given)
        y = inner_product(x, *blobs, axis=split, transpose=self.transpose)
        return relu(y, negative_slope=self.negative_slope) if self.relu else y

    def multiplied(self, *given: Tensor) -> list[Tensor]:
        """Weight and bias as they are multiplied, some of them bottoms."""
        if given:
            biases = [bias.reshape(-1) for bias in given[1:]] or self.blobs
            return [given[0].reshape(self.num_output, self.inputs), *biases]
        if not self.normalize:
            return self.blobs
        weight, *bias = self.blobs
        squares = weight.square().sum(0 if self.transpose else 1, keepdim=True)
        return [weight * torch.rsqrt(squares + NORM_EPS), *bias]


@layer("Embed", bottoms=1, tops=1, fixed_bottoms=(0,))
class Embed(Layer):
    """Look up a vector for each index: a row of a learned table, plus a bias.

    Bottom: any shape, whole numbers in [0, input_dim). Top: (..., num_output). Blobs: table
    (input_dim, num_output), bias (num_output,) unless bias_term: false. The gradients of repeated
    indices add up; the indices themselves take no gradient. Message: embed_param.

    Errors: an index outside of [0, input_dim).
    """

    num_output: int = option(positive, required=True)
    input_dim: int = option(positive, required=True)
    bias_term: bool = option()
    weight_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()

    def top_shapes(self, x: Shape) -> list[Shape]:
        return [(*x, self.num_output)]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        yield BlobSpec((self.input_dim, self.num_output), self.weight_filler)
        if self.bias_term:
            yield BlobSpec((self.num_output,), self.bias_filler)

    def forward(self, x: Tensor) -> Tensor:
        index = indices(
            x.detach(),
            self.input_dim,
            of="rows of the table",
            advice="Check the data, or input_dim.",
        )
        table, *bias = self.blobs
        y = F.embedding(index, table)
        return y + bias[0] if bias else y
