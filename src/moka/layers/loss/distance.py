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
from moka.layers.gradient import with_gradient_of
from moka.layers.options import LAYER, option, positive
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


@layer(
    "EuclideanLossHeatmap",
    bottoms=(2, 3),
    tops=1,
    is_loss=True,
    fixed_bottoms=(1, 2),
    fork="caffe-heatmap",
)
class EuclideanLossHeatmap(Layer):
    """The mean squared difference of two stacks of maps. Its gradient is a - b, divided by nothing.

    Bottoms: maps a (N, C, H, W); their targets b of the same shape, no gradient; optionally the
    images, which the fork shows in windows. Top: a scalar, sum (a - b)^2 / (N C H W). `visualise`
    and `visualise_channel`, fields of the layer itself, have no effect here. Pfister et al., 2015.

    Errors: maps of different shapes.

    The fork leaves loss_weight out of the gradient; here it multiplies it.
    """

    visualise: bool = option(of=LAYER)
    visualise_channel: int = option(of=LAYER)

    def top_shapes(self, a: Shape, b: Shape, *images: Shape) -> list[Shape]:
        if a != b:
            raise NetError(f"the maps and their targets have different shapes: {a} and {b}.")
        return [()]

    def forward(self, a: Tensor, b: Tensor, *images: Tensor) -> Tensor:
        squares = (a - b).square().sum()
        return with_gradient_of(squares.detach() / max(1, a.numel()), squares / 2)


@layer("LocLoss", bottoms=1, tops=1, is_loss=True, fork="Spatial Transformer")
class LocLoss(Layer):
    """Keep values near 0: the mean of max(|x| - threshold, 0)^2 / 2, as for the parameters of a
    spatial transformer.

    Bottom: x of any shape. Top: a scalar. Message: loc_loss_param.

    Errors: no threshold, or one that is not above 0.

    Where |x| is at most the threshold, the fork's gradient is what lay in memory; here it is 0.
    """

    threshold: float = option(positive, required=True)

    def top_shapes(self, x: Shape) -> list[Shape]:
        return [()]

    def forward(self, x: Tensor) -> Tensor:
        beyond = (x.abs() - self.threshold).clamp_min(0)
        return beyond.square().sum() / (2 * max(1, x.numel()))


@layer("ContrastiveLoss", bottoms=(3, 4), tops=(1, 2), is_loss=True, fixed_bottoms=(2, 3))
class ContrastiveLoss(Layer):
    """Pull similar pairs together and push others apart: the sum of
    s d^2 + (1 - s) max(margin - d, 0)^2, divided by 2 N, with d the distance of a pair.

    Bottoms: a, b (N, C); similarity s (N,), 1 or 0 (no gradient). Top: a scalar.
    Message: contrastive_loss_param (`margin`; `legacy_version` takes max(margin - d^2, 0)).
    The gradient uses d + 1e-4 in place of d. Hadsell et al., 2006.

    Forks: in place of s, the labels of both (N, 2) (MyCaffe), or the labels of a, and as fourth
    bottom those of b (caffe-windows): a pair is similar if they are equal. A second top with
    `output_matches: true` (MyCaffe) is 1 for each pair (N, 1, 1, 1) on the right side of the
    margin, else 0.

    Errors: bottoms of different shapes, or with more than one value per channel; another number of
    similarities or labels; a second top without output_matches; centroid_learning, which is not
    here.
    """

    margin: float = option()
    legacy_version: bool = option()
    output_matches: bool = option()
    centroid_learning: str = option()

    def top_shapes(self, a: Shape, b: Shape, *labels: Shape) -> list[Shape]:
        require_axes(1, a, b)
        if self.centroid_learning != "NONE":
            raise NetError(f"centroid_learning: {self.centroid_learning} is not supported.")
        if a[:2] != b[:2] or prod(a[2:]) != 1 or prod(b[2:]) != 1:
            raise NetError(f"takes two blobs (N, C), got shapes {a} and {b}.")
        given = sum(prod(shape) for shape in labels)
        if given not in (a[0], 2 * a[0]) or any(shape[:1] != a[:1] for shape in labels):
            raise NetError(
                f"needs one similarity for each of {a[0]} pairs, or two labels, got shape"
                f" {' and '.join(shape_text(shape) for shape in labels)}."
            )
        matches = (a[0], 1, 1, 1)
        return [(), matches][: self.top_count if self.output_matches else 1]

    def forward(self, a: Tensor, b: Tensor, *labels: Tensor) -> Tensor | list[Tensor]:
        given = torch.cat([as_rows(label) for label in labels], 1).long()
        similar = given[:, 0] != 0 if given.shape[1] == 1 else given[:, 0] == given[:, 1]
        squared = (as_rows(a) - as_rows(b)).square().sum(1)
        if self.legacy_version:
            inside = self.margin - squared
            apart = torch.relu(inside)
        else:
            d = _Distance.apply(squared)  # type: ignore[no-untyped-call]
            inside = self.margin - d
            apart = torch.relu(inside).square()
        loss = torch.where(similar, squared, apart).sum() / (2 * max(1, a.shape[0]))
        if self.top_count < 2:
            return loss
        matches = (similar == (inside.detach() >= 0)).to(a).reshape(-1, 1, 1, 1)
        return [loss, matches]


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
