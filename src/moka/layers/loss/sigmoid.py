"""The loss of independent yes/no predictions."""

from __future__ import annotations

from math import prod

import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.registry import layer
from moka.layers.shapes import require_axes, shape_text
from moka.types import Shape


@layer(
    "SigmoidCrossEntropyLoss",
    bottoms=2,
    tops=1,
    message="loss_param",
    is_loss=True,
    prediction="Sigmoid",
    fixed_bottoms=(1,),
)
class SigmoidCrossEntropyLoss(NormalizedLoss):
    """Cross-entropy of independent yes/no predictions:
    -(t log s(x) + (1 - t) log(1 - s(x))), with s the logistic function; summed and divided.

    Bottoms: scores x, any real numbers; targets t of the same count, in [0, 1] (fractions too).
    Top: a scalar. The targets take no gradient. Message: loss_param; normalization defaults to
    BATCH_SIZE (the first axis). A target whose integer part equals ignore_label does not count, so
    ignore_label: 0 leaves out all targets in [0, 1).

    Errors: scores and targets of different counts.
    """

    default_normalization = "BATCH_SIZE"

    def top_shapes(self, x: Shape, target: Shape) -> list[Shape]:
        require_axes(1, x)
        if prod(x) != prod(target):
            raise NetError(
                "SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count:"
                f" {shape_text(x)} vs. {shape_text(target)}."
            )
        return [()]

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        target, counted = target.reshape(x.shape), None
        if self.ignore_label is not None:
            counted = target.trunc() != self.ignore_label
            x = x.where(counted, 0)
        loss = target * F.softplus(-x) + (1 - target) * F.softplus(x)
        if counted is not None:
            loss = loss.where(counted, 0)
        return loss.sum() / self.divisor(x.shape[0], prod(x.shape[1:]), counted)
