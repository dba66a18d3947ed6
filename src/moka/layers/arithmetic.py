"""Layers that combine blobs element by element."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, Shape, param
from moka.layers.registry import layer


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """The larger of two; the gradient goes to one of them only, on a tie to b."""
    return torch.where(a > b, a, b)


@layer("Eltwise", bottoms=(2, None), tops=1)
class Eltwise(Layer):
    """Sum (with coefficients), product or maximum of blobs of one shape, element by element.

    Bottoms: two or more of the same shape. Top: that shape. Message: eltwise_param (`operation`
    SUM, PROD or MAX; `coeff` for SUM, one a bottom; `stable_prod_grad: false` computes the gradient
    of PROD as y / x, with NaN at 0, in BVLC Caffe; here it is always the true one).
    MAX: between the first two a tie goes to the second; a further one must be strictly larger. Its
    gradient goes to one bottom only.

    Errors: different shapes; coeff for another operation, or not one for each bottom.
    """

    operation = param()
    coeff = param()
    stable_prod_grad = param()

    def setup(self, *bottom_shapes: Shape) -> None:
        if len(self.coeff) not in (0, len(bottom_shapes)):
            raise NetError(
                f"Eltwise takes one coefficient per bottom blob: {len(self.coeff)} for"
                f" {len(bottom_shapes)}."
            )
        if self.coeff and self.operation != "SUM":
            raise NetError("Eltwise layer only takes coefficients for summation.")

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        for shape in bottom_shapes[1:]:
            if shape != bottom_shapes[0]:
                raise NetError(f"bottoms differ in shape: {bottom_shapes[0]} and {shape}.")
        return [bottom_shapes[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        if self.operation == "SUM":
            if self.coeff:
                bottoms = tuple(c * x for c, x in zip(self.coeff, bottoms, strict=True))
            return reduce(torch.add, bottoms)
        if self.operation == "PROD":
            return reduce(torch.mul, bottoms)
        first = maximum(bottoms[0], bottoms[1])
        return reduce(lambda best, x: maximum(x, best), bottoms[2:], first)
