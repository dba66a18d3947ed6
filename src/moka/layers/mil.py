"""Probabilities of a whole that come from its parts (multiple instance learning)."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.gradient import with_gradient_of
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.types import Shape


@layer("MIL", bottoms=1, tops=1, message="mil_param", fork="Fang et al. and R*CNN")
class MIL(Layer):
    """What a class's probabilities at all positions of an image say of the image.

    type MAX (default): the largest one; all positions that have it take the whole gradient. NOR:
    noisy or, 1 - the product of 1 - p, at least the largest p; the gradient is
    min(1, (1 - y) / (1 - p)).

    With context_per_roi (R*CNN) the largest of as many rows that follow each other.

    Bottom: (N, C, H, W), for NOR values from 0 to 1; with context_per_roi (N context_per_roi, C).
    Top: (N, C, 1, 1). Message: mil_param. Fang et al., 2015; Gkioxari et al., 2015 (R*CNN).

    Errors: a bottom of less than two axes; with context_per_roi rows of several positions, a number
    of rows that is no multiple of it, or type NOR.
    """

    kind: str = option(field="type")  # a module of PyTorch has a `type` of its own
    context_per_roi: int | None = option(positive)

    def setup(self, x: Shape) -> None:
        if self.context_per_roi and self.kind == "NOR":
            raise NetError("context_per_roi takes the largest value: type must be MAX, got NOR.")

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) < 2:
            raise NetError(f"takes probabilities (N, C, ...), got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        rows = self.context_per_roi or 1
        if self.context_per_roi and prod(x[2:]) != 1:
            raise NetError(f"with context_per_roi takes rows (N, C), got a bottom of shape {x}.")
        if x[0] % rows:
            raise NetError(f"rows must be a multiple of context_per_roi {rows}, got {x[0]}.")
        return [(x[0] // rows, x[1], 1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        shape = self.top_shapes(tuple(x.shape))[0]
        if self.context_per_roi:
            parts = x.reshape(shape[0], self.context_per_roi, shape[1]).transpose(1, 2)
        else:
            parts = x.reshape(*shape[:2], prod(x.shape[2:]))
        p = parts.detach()
        largest = p.amax(2, keepdim=True)
        if self.kind == "MAX":
            y, slopes = largest, (p == largest).to(p.dtype)
        else:
            y = torch.maximum(1 - (1 - p).prod(2, keepdim=True), largest)
            slopes = ((1 - y) / (1 - p).clamp_min(torch.finfo(p.dtype).tiny)).clamp_max(1)
        return with_gradient_of(y.reshape(shape), (parts * slopes).sum(2).reshape(shape))
