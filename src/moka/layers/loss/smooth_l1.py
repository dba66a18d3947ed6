"""The loss of box regression: squared for small errors, absolute for large ones."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import require_axes, shape_text
from moka.types import Shape


def smooth_l1(x: Tensor, sigma: float = 1.0) -> Tensor:
    """s x^2 / 2 where |x| < 1 / s, else |x| - 1 / (2 s), with s = sigma^2; shaped like x."""
    s = sigma * sigma
    size = x.abs()
    return torch.where(size < 1 / s, 0.5 * s * x * x, size - 0.5 / s)


def check_same_values(prediction: Shape, *others: Shape) -> None:
    """Raises NetError unless all bottoms have as many items, and values an item, as the first."""
    require_axes(1, prediction, *others)
    for other in others:
        if other[0] != prediction[0] or prod(other) != prod(prediction):
            raise NetError(
                "Inputs must have the same dimension:"
                f" {shape_text(prediction)} vs. {shape_text(other)}."
            )


def position_shape(x: Shape) -> Shape:
    """The shape (N, 1, H, W) of one value for each position of a blob (N, C, ...)."""
    rest = (*x[2:], 1, 1)[:2]
    return (x[0], 1, *rest)


def weighted_difference(a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
    """w (a - b), or a - b without weights, in the shape of a."""
    difference = a - b.reshape(a.shape)
    return difference * weights[0].reshape(a.shape) if weights else difference


def loss_of_positions(errors: Tensor) -> Tensor:
    """Errors (N, C, ...) summed over channels, without gradient: (N, 1, H, W)."""
    sums = errors.detach().sum(1) if errors.dim() > 1 else errors.detach()
    return sums.reshape(position_shape(tuple(errors.shape)))


@layer("SmoothL1Loss", bottoms=(2, 4), tops=(1, 2), is_loss=True, fixed_bottoms=(2, 3), fork="SSD")
class SmoothL1Loss(Layer):
    """Smooth L1 distance of two blobs, for each item: sum of w_out f(w_in (a - b)) / N, where
    f(d) = s d^2 / 2 if |d| < 1 / s, else |d| - 1 / (2 s), and s = sigma^2.

    Bottoms: a, b (N, C, ...), both take gradients; optionally the inside weights w_in, or the
    inside and the outside weights w_out, of the same count (no gradient). Tops: a scalar;
    optionally the loss of each position (N, 1, H, W), without a gradient (Cascade R-CNN). Message:
    smooth_l1_loss_param.
    Girshick, 2015 (Fast R-CNN, whose first release has inside weights alone); SSD has no sigma,
    that is 1, and no inside weights alone.

    Errors: bottoms that differ in count.
    """

    sigma: float = option(positive)

    def top_shapes(self, a: Shape, b: Shape, *weights: Shape) -> list[Shape]:
        check_same_values(a, b, *weights)
        return [(), position_shape(a)][: self.top_count]

    def forward(self, a: Tensor, b: Tensor, *weights: Tensor) -> list[Tensor]:
        errors = smooth_l1(weighted_difference(a, b, *weights[:1]), self.sigma)
        if len(weights) == 2:
            errors = errors * weights[1].reshape(a.shape)
        loss = errors.sum() / max(1, a.shape[0])
        return [loss] if self.top_count < 2 else [loss, loss_of_positions(errors)]


@layer(
    "SmoothL1LossOHEM",
    bottoms=(2, 3),
    tops=(1, 2),
    message="loss_param",
    is_loss=True,
    fixed_bottoms=(2,),
    fork="R-FCN",
)
class SmoothL1LossOHEM(NormalizedLoss):
    """Smooth L1 distance of two blobs, and that of each region: sum of f(w (a - b)) / divisor,
    where f(d) = d^2 / 2 if |d| < 1, else |d| - 1 / 2.

    Bottoms: a, b (N, C, ...), both take gradients; optionally weights w of the same count (no
    gradient). Tops: a scalar; optionally the loss of each position (N, 1, H, W), without a
    gradient. Message: loss_param; the divisor is by normalization: VALID (default) and FULL
    N H W, BATCH_SIZE N, PRE_FIXED pre_fixed_normalizer, NONE 1. ignore_label is not read.
    Shrivastava et al., 2016; Dai et al., 2016 (R-FCN).

    Errors: bottoms that differ in count.
    """

    def top_shapes(self, a: Shape, b: Shape, *weights: Shape) -> list[Shape]:
        check_same_values(a, b, *weights)
        return [(), position_shape(a)][: self.top_count]

    def forward(self, a: Tensor, b: Tensor, *weights: Tensor) -> list[Tensor]:
        errors = smooth_l1(weighted_difference(a, b, *weights))
        divide_by = self.divisor(a.shape[0], prod(a.shape[2:]), None)
        if self.normalization_mode == "PRE_FIXED":
            divide_by = self.pre_fixed_normalizer  # which may be below 1 here
        loss = errors.sum() / divide_by
        return [loss] if self.top_count < 2 else [loss, loss_of_positions(errors)]
