"""Layers that multiply by a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer, Shape, canonical_axis, param, positive, shape_text
from moka.layers.registry import layer


def inner_product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, axis: int, transpose: bool
) -> Tensor:
    """x (outer..., inner...) split at `axis`; weight (N, K), or (K, N) if transpose, K the
    product of inner; bias (N,). Returns (outer..., N)."""
    if x.dim() != axis + 1:
        x = x.reshape(*x.shape[:axis], -1)
    return F.linear(x, weight.t() if transpose else weight, bias)


@layer("InnerProduct", bottoms=1, tops=1)
class InnerProduct(Layer):
    """Fully connected: y = x W^T + b, everything from `axis` on counts as one vector.

    Bottom: (outer..., inner...), K = product of inner. Top: (outer..., num_output).
    Blobs: weight (num_output, K), or (K, num_output) with transpose: true; bias (num_output,)
    unless bias_term: false. Message: inner_product_param.

    Errors: a bottom whose K differs from the one the weights were made for.
    """

    num_output = param(positive, required=True)
    bias_term = param()
    weight_filler = param()
    bias_filler = param()
    axis = param()
    transpose = param()

    def setup(self, x: Shape) -> None:
        self.split = canonical_axis(self.axis, x)
        self.inputs = prod(x[self.split :])

    def top_shapes(self, x: Shape) -> list[Shape]:
        inputs = prod(x[self.split :])
        if inputs != self.inputs:
            raise NetError(
                f"Input size incompatible with inner product parameters: the weights take"
                f" {self.inputs} inputs, a bottom of shape {shape_text(x)} has {inputs}."
            )
        return [(*x[: self.split], self.num_output)]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        n, k = self.num_output, self.inputs
        yield BlobSpec((k, n) if self.transpose else (n, k), self.weight_filler)
        if self.bias_term:
            yield BlobSpec((n,), self.bias_filler)

    def forward(self, x: Tensor) -> Tensor:
        return inner_product(x, *self.blobs, axis=self.split, transpose=self.transpose)
