"""The loss of independent yes/no predictions."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, require_axes, shape_text
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

    HED's and RCF's layer of this name, which a net does not tell from BVLC's, is `class_balance: 1`
    or `class_balance: 1.1`: in an item with P targets of 1 and Q of 0, terms of the first are
    multiplied by Q / (P + Q), those of the second by class_balance P / (P + Q); other targets do
    not count. Xie and Tu, 2015; Liu et al., 2017.

    Errors: scores and targets of different counts.
    """

    default_normalization = "BATCH_SIZE"

    class_balance: float | None = option(positive, of="loss_param")

    def top_shapes(self, x: Shape, target: Shape) -> list[Shape]:
        _check_counts("SIGMOID_CROSS_ENTROPY_LOSS", x, target)
        return [()]

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        target, counted = target.reshape(x.shape), None
        if self.ignore_label is not None:
            counted = target.trunc() != self.ignore_label
            x = x.where(counted, 0)
        weight = None
        if self.class_balance is not None:
            weight, counted = balanced(as_rows(target), counted, self.class_balance)
            weight, counted = weight.view(x.shape), counted.view(x.shape)
        loss = sigmoid_cross_entropy(x, target)
        if weight is not None:
            loss = loss * weight
        if counted is not None:
            loss = loss.where(counted, 0)
        return loss.sum() / self.divisor(x.shape[0], prod(x.shape[1:]), counted)


def sigmoid_cross_entropy(x: Tensor, target: Tensor) -> Tensor:
    """-t log s(x) - (1 - t) log(1 - s(x)) of scores x and targets t of one shape."""
    return target * F.softplus(-x) + (1 - target) * F.softplus(x)


def _check_counts(kind: str, x: Shape, target: Shape) -> None:
    """Raises NetError unless there is a target for each score."""
    require_axes(1, x)
    if prod(x) != prod(target):
        raise NetError(
            f"{kind} layer inputs must have the same count:"
            f" {shape_text(x)} vs. {shape_text(target)}."
        )


def balanced(target: Tensor, counted: Tensor | None, balance: float) -> tuple[Tensor, Tensor]:
    """A factor for each of targets (N, K), as HED has it, and a mask of those that count.

    Args:
        counted: mask of the targets that are not ignored; None: all.
        balance: by which the factors of targets of 0 are multiplied.
    """
    ones, zeros = target == 1, target == 0
    if counted is not None:
        ones, zeros = ones & as_rows(counted), zeros & as_rows(counted)
    positive_count = ones.sum(1, keepdim=True).to(target)
    negative_count = zeros.sum(1, keepdim=True).to(target)
    total = (positive_count + negative_count).clamp_min(1)
    of_zeros = balance * positive_count / total
    return torch.where(ones, negative_count / total, of_zeros), ones | zeros


@layer(
    "MultiLabelLoss",
    bottoms=2,
    tops=(1, 2),
    is_loss=True,
    prediction="Sigmoid",
    fixed_bottoms=(1,),
    fork="sguada's Caffe",
)
class MultiLabelLoss(Layer):
    """Cross-entropy of independent yes/no predictions, some of which are unknown: with s the
    logistic function the sum of -log s(x) over the targets above 0 and of -log(1 - s(x)) over those
    below 0, divided by N. Targets of 0 do not count.

    Bottoms: scores x (N, ...); targets of the same count, no gradient. Top: a scalar; optionally
    s(x), shaped like x, without a gradient. No message.

    Errors: scores and targets of different counts.
    """

    def top_shapes(self, x: Shape, target: Shape) -> list[Shape]:
        _check_counts("MULTI_LABEL_LOSS", x, target)
        return [(), x][: self.top_count]

    def forward(self, x: Tensor, target: Tensor) -> list[Tensor]:
        target = target.reshape(x.shape)
        loss = F.softplus(torch.where(target > 0, -x, x)).where(target != 0, 0)
        tops = [loss.sum() / max(1, len(x)), torch.sigmoid(x.detach())]
        return tops[: self.top_count]
