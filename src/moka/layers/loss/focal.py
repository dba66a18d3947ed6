"""The focal loss: classification in which easy examples count less."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from moka.layers.labels import check_label_count, class_labels
from moka.layers.loss.log_likelihood import floored
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.loss.softmax import SMALLEST
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import sizes_around
from moka.types import Shape

LEAST_BASE = 1e-10  # of the power


@layer("FocalLoss", bottoms=2, tops=(1, 2), fork="caffe-windows", is_loss=True, fixed_bottoms=(1,))
class FocalLoss(NormalizedLoss):
    """Softmax loss whose terms are weighted: -(alpha - p)^gamma log p, summed and divided, with p
    the probability of the label.

    type ONEADDP: -(alpha + p)^gamma log p, which caffe-windows uses for faces. LINEAR is computed
    as ORIGIN, as there; `beta` has no effect. With alpha = 1 (default) and gamma = 2 ORIGIN is the
    focal loss of the paper. The logarithm is taken of at least the smallest float.

    Bottoms: scores (outer..., C, inner...) with C classes along softmax_param's axis; labels,
    outer * inner whole numbers in [0, C) (no gradient). Tops: the loss, a scalar; optionally the
    probabilities. Messages: focal_loss_param, loss_param (as SoftmaxWithLoss), softmax_param.
    Lin et al., 2017.

    Errors: not one label for each position; a label outside [0, C).
    """

    type: str = option()  # type: ignore[assignment]  # of Module
    gamma: float = option(not_negative)
    alpha: float = option(positive)
    beta: float = option()
    axis: int = option(of="softmax_param")

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_label_count(x, label, self.axis)
        return [(), x][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        index, counted = class_labels(label.reshape(outer, 1, inner), classes, self.ignore_label)
        logarithm = torch.log_softmax(x.reshape(outer, classes, inner), 1).gather(1, index)
        p = logarithm.exp()
        base = self.alpha + p if self.type == "ONEADDP" else self.alpha - p
        loss = -(base.clamp_min(LEAST_BASE) ** self.gamma) * floored(logarithm, log(SMALLEST))
        if counted is not None:
            loss = loss.where(counted, 0)
        total = loss.sum() / self.divisor(outer, inner, counted)
        if self.top_count < 2:
            return total
        return [total, torch.softmax(x.detach(), self.axis)]
