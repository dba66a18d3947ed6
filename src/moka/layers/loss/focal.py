"""The focal loss: classification in which easy examples count less."""

from __future__ import annotations

from math import log, prod
from typing import ClassVar

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.labels import check_label_count, class_labels
from moka.layers.loss.log_likelihood import floored
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.loss.sigmoid import sigmoid_cross_entropy
from moka.layers.loss.softmax import SMALLEST
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import sizes_around
from moka.types import Shape

LEAST_BASE = 1e-10  # of the power
CAFFEMEX_ALPHA = 0.25


@layer(
    "FocalLoss",
    bottoms=2,
    tops=(1, 2),
    fork="caffe-windows and CaffeMex",
    is_loss=True,
    fixed_bottoms=(1,),
)
class FocalLoss(NormalizedLoss):
    """Softmax loss whose terms are weighted: -alpha (1 - p)^gamma log p, summed and divided, with p
    the probability of the label.

    An alpha above 1 is caffe-windows': -(alpha - p)^gamma log p. type ONEADDP:
    -(alpha + p)^gamma log p, with any alpha, which caffe-windows uses for faces. LINEAR is computed
    as ORIGIN, as in the forks; `beta` has no effect. alpha is 1 if it is not given, as in
    caffe-windows; the Focal-Loss that it comes from has 0.25 then. The logarithm is taken of at
    least the smallest float.

    CaffeMex's form (liuyuisanai), where there are as many labels as scores: independent yes/no
    predictions. p is s(x) for a target of 1 and 1 - s(x) for any other, with s the logistic
    function; a term is alpha (1 - p)^gamma times SigmoidCrossEntropyLoss's, for any alpha, which is
    0.25 if it is not given; normalization defaults to BATCH_SIZE; `type` has no effect.

    Bottoms: scores (outer..., C, inner...) with C classes along `axis`, or else softmax_param's
    axis; labels, outer * inner whole numbers in [0, C), or in CaffeMex's form one for each score
    (no gradient). Tops: the loss, a scalar; optionally the probabilities. Messages:
    focal_loss_param, loss_param (as SoftmaxWithLoss), softmax_param. Lin et al., 2017.

    Errors: not one label for each position; a label outside [0, C); a second top in CaffeMex's
    form.
    """

    default_alpha: ClassVar = 1.0
    may_be_binary: ClassVar = True  # has CaffeMex's form too

    type: str = option()  # type: ignore[assignment]  # of Module
    gamma: float = option(not_negative)
    alpha: float | None = option(positive, unset_is_none=True)
    beta: float = option()
    axis: int = option(of="softmax_param")
    own_axis: int | None = option(field="axis")

    def setup(self, x: Shape, label: Shape) -> None:
        if self.own_axis is not None:
            self.axis = self.own_axis
        self.is_binary = self.may_be_binary and prod(x) == prod(label)
        if self.is_binary and self.top_count > 1:
            raise NetError("has one top where there is a label for each score.")

    @property
    def normalization_mode(self) -> str:
        if self.is_binary and self.normalization is None and self.normalize is None:
            return "BATCH_SIZE"
        return super().normalization_mode

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        if not self.is_binary:
            check_label_count(x, label, self.axis)
        return [(), x][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        if self.is_binary:
            return self._binary(x, label.reshape(x.shape))
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        index, counted = class_labels(label.reshape(outer, 1, inner), classes, self.ignore_label)
        logarithm = torch.log_softmax(x.reshape(outer, classes, inner), 1).gather(1, index)
        loss = -self.weight(logarithm.exp()) * floored(logarithm, log(SMALLEST))
        if counted is not None:
            loss = loss.where(counted, 0)
        total = loss.sum() / self.divisor(outer, inner, counted)
        if self.top_count < 2:
            return total
        return [total, torch.softmax(x.detach(), self.axis)]

    def weight(self, p: Tensor) -> Tensor:
        """The factor of the terms whose label has the probability p."""
        alpha = self.default_alpha if self.alpha is None else self.alpha
        if self.type == "ONEADDP":
            return (alpha + p) ** self.gamma
        factor, start = (alpha, 1.0) if alpha < 1 else (1.0, alpha)
        return factor * (start - p).clamp_min(LEAST_BASE) ** self.gamma

    def _binary(self, x: Tensor, target: Tensor) -> Tensor:
        whole, counted = target.trunc(), None
        loss = sigmoid_cross_entropy(x, target)
        missing = torch.sigmoid(torch.where(whole == 1, -x, x))  # 1 - p
        alpha = CAFFEMEX_ALPHA if self.alpha is None else self.alpha
        loss = loss * (alpha * missing.clamp_min(LEAST_BASE) ** self.gamma)
        if self.ignore_label is not None:
            counted = whole != self.ignore_label
            loss = loss.where(counted, 0)
        return loss.sum() / self.divisor(x.shape[0], prod(x.shape[1:]), counted)


@layer(
    "SoftmaxFocalLoss",
    bottoms=2,
    tops=(1, 2),
    message="focal_loss_param",
    other_messages=("softmax_focal_loss_param",),
    aliases=("SoftmaxWithFocalLoss",),
    fork="Focal-Loss",
    is_loss=True,
    fixed_bottoms=(1,),
)
class SoftmaxFocalLoss(FocalLoss):
    """Softmax loss whose terms are weighted: -alpha (1 - p)^gamma log p, summed and divided, with p
    the probability of the label.

    As FocalLoss, with alpha a factor whatever its value, 0.25 if it is not given; `type` and `beta`
    have no effect.

    Bottoms: scores (outer..., C, inner...) with C classes along `axis`, or else softmax_param's
    axis; labels, outer * inner whole numbers in [0, C) (no gradient). Tops: the loss, a scalar;
    optionally the probabilities. Messages: focal_loss_param, or softmax_focal_loss_param
    (SoftmaxWithFocalLoss); loss_param (as SoftmaxWithLoss); softmax_param. Lin et al., 2017.

    Errors: not one label for each position; a label outside [0, C).
    """

    default_alpha = 0.25
    may_be_binary = False

    def weight(self, p: Tensor) -> Tensor:
        alpha = self.default_alpha if self.alpha is None else self.alpha
        return alpha * (1 - p).clamp_min(LEAST_BASE) ** self.gamma
