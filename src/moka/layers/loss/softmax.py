"""The loss of classification: softmax and negative log likelihood in one stable step."""

from __future__ import annotations

from math import log, prod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.errors import NetError
from moka.layers.labels import check_label_count, class_labels
from moka.layers.loss.log_likelihood import floored
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.loss.smooth_l1 import position_shape
from moka.layers.options import Check, not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import canonical_axis, sizes_around
from moka.types import Shape

SMALLEST = torch.finfo(torch.float32).tiny
fraction = Check(lambda v: 0 <= v < 1, "in [0, 1)")


class _SoftmaxNLL(Function):
    """Sum of -log softmax(x)[label], with a gradient written by hand.

    BVLC Caffe takes the logarithm of at least the smallest float, but its gradient, p - onehot,
    knows no such floor.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, counted: Tensor | None) -> Tensor:
        p = torch.softmax(x, 1)
        nll = -p.gather(1, index).clamp_min(SMALLEST).log()
        if counted is not None:
            nll = nll.where(counted, 0)
        ctx.save_for_backward(p, index, counted)
        return nll.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        p, index, counted = ctx.saved_tensors
        dx = p.scatter_add(1, index, p.new_full((), -1.0).expand_as(index))
        return grad * (dx if counted is None else dx.where(counted, 0)), None, None


def softmax_nll(x: Tensor, index: Tensor, counted: Tensor | None = None) -> Tensor:
    """Sum over positions of -log of the softmax probability of the label, a scalar.

    Probabilities are floored at the smallest normal float.

    Args:
        x: scores (outer, classes, inner).
        index: labels (outer, 1, inner), int64.
        counted: mask of index's shape, False where a position does not count; None: all count.
    """
    return _SoftmaxNLL.apply(x, index, counted)  # type: ignore[no-untyped-call]


def weighted_softmax_nll(
    x: Tensor,
    index: Tensor,
    counted: Tensor | None,
    weights: Tensor,
    smoothing: float,
    of_positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum over positions of -sum_c q[c] log p[c], p the softmax of x, floored as in `softmax_nll`.

    q[c] = weights[c] (smoothing / classes + (1 - smoothing) [c is the label]).

    Args:
        x, index, counted: as in `softmax_nll`.
        weights: one for each class.
        smoothing: from 0 to less than 1.
        of_positions: one more factor for each position, of index's shape.

    Returns:
        the sum; the sum of the weights of the labels that count.
    """
    nll = -floored(torch.log_softmax(x, 1), log(SMALLEST))
    of_labels = weights[index]
    loss = (1 - smoothing) * of_labels * nll.gather(1, index)
    if smoothing:
        loss = loss + smoothing * (nll * weights[:, None]).mean(1, keepdim=True)
    for factor in (counted, of_positions):
        if factor is not None:
            loss, of_labels = loss * factor, of_labels * factor
    return loss.sum(), of_labels.sum()


def shape_of_losses(x: Shape, label: Shape, axis: int) -> Shape:
    """The shape of the losses of single positions: N 1 H W for scores N C H W, else the labels'."""
    return position_shape(x) if canonical_axis(axis, x) == 1 and len(x) == 4 else label


def losses_of_positions(scores: Tensor, index: Tensor, counted: Tensor | None) -> Tensor:
    """The loss of each position of scores (outer, C, inner), 0 where ignored, without gradient."""
    losses = -torch.softmax(scores.detach(), 1).gather(1, index).clamp_min(SMALLEST).log()
    return losses if counted is None else losses.where(counted, 0)


@layer(
    "SoftmaxWithLoss",
    bottoms=(2, 3),
    tops=(1, 3),
    aliases=("VoxelSoftmaxLoss",),
    message="softmax_param",
    is_loss=True,
    prediction="Softmax",
    fixed_bottoms=(1, 2),
)
class SoftmaxWithLoss(NormalizedLoss):
    """Multinomial logistic loss of a softmax: -log p[label], summed and divided.

    Bottoms: scores (outer..., C, inner...) with C classes along `axis`, any real numbers; labels,
    outer * inner whole numbers in [0, C). Tops: the loss, a scalar; optionally the probabilities,
    shaped like the scores, without a gradient. The labels take no gradient.
    Messages: softmax_param (`engine` has no effect here), loss_param. The sum is divided by a
    number that `normalization` chooses: VALID (default) the count of labels other than
    ignore_label, FULL the count of all labels, BATCH_SIZE the product of the axes before `axis`,
    NONE 1. `normalize: false` means BATCH_SIZE unless normalization is given.

    Beyond Caffe, both as in PyTorch's cross_entropy: `class_weight`, one factor >= 0 per
    class; VALID then divides by the sum of the factors of the labels that count.
    `label_smoothing` s in [0, 1): the target is 1 - s for the label plus s / C for every class.

    Forks: `normalization: PRE_FIXED` (R-FCN, Intel) divides by `pre_fixed_normalizer`.
    `weight_by_label_freqs: true` (SegNet, ENet) weights the loss of a position by the entry of
    `class_weighting` for its label, or without one by 1 / the count of this label in the batch;
    unlike for class_weight the divisor stays the one that normalization chooses.
    A third top (Cascade R-CNN) is as that of SoftmaxWithLossOHEM. A third bottom (Faster R-CNN's
    in MATLAB, caffe-windows), outer * inner numbers without a gradient, weights positions; VALID
    then divides by their sum, at least 1, and labels of weight 0 are not looked at.

    Errors: not one label, or weight, per position; a label outside [0, C); a number of weights
    other than C; class_weighting without weight_by_label_freqs, or beside class_weight.
    """

    weights_of_classes: Tensor
    divides_by_weights: ClassVar[bool] = True  # where weights of positions are given, with VALID

    axis: int = option()
    engine: str = option()
    class_weight: tuple[float, ...] = option(not_negative, of="loss_param")
    label_smoothing: float = option(fraction, of="loss_param")
    weight_by_label_freqs: bool = option(of="loss_param")
    class_weighting: tuple[float, ...] = option(not_negative, of="loss_param")

    def setup(self, x: Shape, label: Shape, *weights_of_positions: Shape) -> None:
        if self.class_weighting and not self.weight_by_label_freqs:
            raise NetError("class_weighting needs weight_by_label_freqs: true.")
        if self.class_weight and self.weight_by_label_freqs:
            raise NetError("give either class_weight or weight_by_label_freqs, not both.")
        self.given_weights = self.class_weight or self.class_weighting
        self.is_plain = not (
            self.class_weight
            or self.label_smoothing
            or self.weight_by_label_freqs
            or weights_of_positions
        )
        weights = torch.tensor(self.given_weights or [1.0] * x[canonical_axis(self.axis, x)])
        self.register_buffer("weights_of_classes", weights, persistent=False)

    def top_shapes(self, x: Shape, label: Shape, *weights: Shape) -> list[Shape]:
        check_label_count(x, label, self.axis)
        if weights and prod(weights[0]) != prod(label):
            raise NetError(f"there are {prod(label)} labels and {prod(weights[0])} weights.")
        classes = x[canonical_axis(self.axis, x)]
        if self.given_weights and len(self.given_weights) != classes:
            name = "class_weight" if self.class_weight else "class_weighting"
            raise NetError(
                f"{name} must be given once for each of {classes} classes, got"
                f" {len(self.given_weights)}."
            )
        return [(), x, shape_of_losses(x, label, self.axis)][: self.top_count]

    def _weights(self, index: Tensor, counted: Tensor | None) -> Tensor:
        """The weight of each class."""
        if self.given_weights or not self.weight_by_label_freqs:
            return self.weights_of_classes
        like = self.weights_of_classes
        each = torch.ones_like(index) if counted is None else counted
        counts = torch.zeros_like(like).index_add_(0, index.flatten(), each.flatten().to(like))
        return 1 / counts.clamp_min(1)

    def forward(self, x: Tensor, label: Tensor, *weights: Tensor) -> Tensor | list[Tensor]:
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        of_positions = weights[0].reshape(outer, 1, inner) if weights else None
        if of_positions is not None:
            label = label.reshape(outer, 1, inner)
            looked_at = of_positions != 0
            if self.ignore_label is not None:
                looked_at |= label == self.ignore_label
            label = label.where(looked_at, 0)
        index, counted = class_labels(label.reshape(outer, 1, inner), classes, self.ignore_label)
        divide_by = self.divisor(outer, inner, counted)
        scores = x.reshape(outer, classes, inner)
        if self.is_plain:
            loss = softmax_nll(scores, index, counted)
        else:
            loss, weight = weighted_softmax_nll(
                scores,
                index,
                counted,
                self._weights(index, counted),
                self.label_smoothing,
                of_positions,
            )
            if self.normalization_mode == "VALID" and self.divides_by_weights:
                if of_positions is not None:
                    divide_by = weight.clamp_min(1)
                elif not self.weight_by_label_freqs:
                    divide_by = weight.where(weight > 0, 1.0)
        loss = loss / divide_by
        if self.top_count < 2:
            return loss
        tops = [loss, torch.softmax(x.detach(), self.axis)]
        if self.top_count > 2:
            losses = losses_of_positions(scores, index, counted)
            tops.append(losses.reshape(shape_of_losses(x.shape, label.shape, self.axis)))
        return tops


@layer(
    "WeightedSoftmaxWithLoss",
    bottoms=(2, 3),
    tops=(1, 2),
    message="softmax_param",
    is_loss=True,
    prediction="Softmax",
    fixed_bottoms=(1, 2),
    fork="many forks",
)
class WeightedSoftmaxWithLoss(SoftmaxWithLoss):
    """SoftmaxWithLoss with a weight for each position, or for the positions of one class.

    Bottoms: as in SoftmaxWithLoss; the third, outer * inner weights without a gradient, multiplies
    the loss of each position. Without it, or beside it, `pos_mult` multiplies the loss of positions
    with the label `pos_cid`. VALID divides by the count of labels other than ignore_label, not by
    the sum of weights, as most forks do. Tops, messages and other options: those of
    SoftmaxWithLoss; pos_mult and pos_cid stand in softmax_param.

    Errors: those of SoftmaxWithLoss; a pos_cid that is no class, with a pos_mult.

    A few forks give the name to something else, which is not here: they divide by the sum of the
    weights (that is SoftmaxWithLoss with three bottoms), or weight whole items.
    """

    divides_by_weights: ClassVar[bool] = False

    pos_mult: float = option(not_negative)
    pos_cid: int = option()

    def setup(self, x: Shape, label: Shape, *weights_of_positions: Shape) -> None:
        super().setup(x, label, *weights_of_positions)
        if self.pos_mult == 1:
            return
        classes = len(self.weights_of_classes)
        if not 0 <= self.pos_cid < classes:
            raise NetError(f"pos_cid must be one of the {classes} classes, got {self.pos_cid}.")
        self.weights_of_classes[self.pos_cid] *= self.pos_mult
        self.is_plain = False
