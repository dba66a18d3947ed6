"""Losses of distances between blobs."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, require_axes, shape_text
from moka.types import Shape


@layer(
    "EuclideanLoss",
    bottoms=(2, 3),
    tops=1,
    message="loss_param",
    is_loss=True,
    fixed_bottoms=(2,),
)
class EuclideanLoss(Layer):
    """Half the squared distance of two blobs per item: sum (a - b)^2 / (2 N).

    Bottoms: a, b (N, ...) with the same count per item; both take gradients; optionally weights w
    of that count, no gradient: sum (w (a - b))^2 / (2 N) (a fork that Fast R-CNN grew from). Top:
    a scalar. Reads no options: BVLC's layer ignores loss_param too.

    Errors: items of different counts.
    """

    def top_shapes(self, a: Shape, *others: Shape) -> list[Shape]:
        require_axes(1, a)
        for b in others:
            if a[:1] != b[:1] or prod(a) != prod(b):
                raise NetError(
                    f"Inputs must have the same dimension: {shape_text(a)} vs. {shape_text(b)}."
                )
        return [()]

    def forward(self, a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        difference = a - b.reshape(a.shape)
        for w in weights:
            difference = difference * w.reshape(a.shape)
        return difference.square().sum() / (2 * max(1, a.shape[0]))


@layer("ContrastiveLoss", bottoms=3, tops=1, is_loss=True, fixed_bottoms=(2,))
class ContrastiveLoss(Layer):
    """Pull similar pairs together and push others apart: the sum of
    s d^2 + (1 - s) max(margin - d, 0)^2, divided by 2 N, with d the distance of a pair.

    Bottoms: a, b (N, C); similarity s (N,), 1 or 0 (no gradient). Top: a scalar.
    Message: contrastive_loss_param (`margin`; `legacy_version` takes max(margin - d^2, 0)).
    The gradient uses d + 1e-4 in place of d. Hadsell et al., 2006.

    Errors: bottoms of different shapes, or with more than one value per channel.
    """

    margin: float = option()
    legacy_version: bool = option()

    def top_shapes(self, a: Shape, b: Shape, similar: Shape) -> list[Shape]:
        require_axes(1, a, b)
        if a[:2] != b[:2] or prod(a[2:]) != 1 or prod(b[2:]) != 1:
            raise NetError(f"takes two blobs (N, C), got shapes {a} and {b}.")
        if prod(similar) != a[0]:
            raise NetError(f"needs one similarity for each of {a[0]} pairs, got shape {similar}.")
        return [()]

    def forward(self, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        s = similar.reshape(-1).long()
        squared = as_rows(a - b).square().sum(1)
        if self.legacy_version:
            apart = torch.relu(self.margin - squared)
        else:
            d = _Distance.apply(squared)  # type: ignore[no-untyped-call]
            apart = torch.relu(self.margin - d).square()
        return torch.where(s != 0, squared, apart).sum() / (2 * max(1, a.shape[0]))


class _Distance(Function):
    """d = sqrt(squared), with the gradient 1 / (2 (d + 1e-4)): Caffe's guard against d = 0."""

    @staticmethod
    def forward(ctx: Any, squared: Tensor) -> Tensor:
        d = squared.sqrt()
        ctx.save_for_backward(d)
        return d

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (d,) = ctx.saved_tensors
        return grad / (2 * (d + 1e-4))
