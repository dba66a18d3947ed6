"""Losses that take the logarithm of probabilities, never of less than a floor."""

from __future__ import annotations

from math import log, prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.labels import check_label_count, check_one_label_an_item, class_labels
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, sizes_around
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array
from moka.types import Shape

LOG_FLOOR = 1e-20  # probabilities are at least this in the logarithm


def floored(x: Tensor, least: float) -> Tensor:
    """max(x, least), with the gradient of x: the gradients of Caffe's losses know no floor."""
    value = x.detach()
    return x - value + value.clamp_min(least)  # in this order: 0 + the floor, which is exact


@layer(
    "MultinomialLogisticLoss",
    bottoms=2,
    tops=1,
    message="loss_param",
    is_loss=True,
    fixed_bottoms=(1,),
)
class MultinomialLogisticLoss(Layer):
    """The loss of probabilities: the sum of -log p[label] / N, with p at least 1e-20.

    Bottoms: probabilities (N, C...); labels, N whole numbers in [0, C). Top: a scalar. The
    labels take no gradient. Reads no options, as in BVLC Caffe. For scores instead of
    probabilities SoftmaxWithLoss is the stable choice.

    Errors: not one label per item; a label outside [0, C).
    """

    def top_shapes(self, p: Shape, label: Shape) -> list[Shape]:
        check_one_label_an_item(p, label)
        return [()]

    def forward(self, p: Tensor, label: Tensor) -> Tensor:
        rows = as_rows(p)
        index, _ = class_labels(label.reshape(-1, 1), rows.shape[1], None)
        return -floored(rows.gather(1, index), LOG_FLOOR).log().sum() / max(1, len(rows))


@layer("InfogainLoss", bottoms=(2, 3), tops=(1, 2), is_loss=True, fixed_bottoms=(1, 2))
class InfogainLoss(NormalizedLoss):
    """Multinomial logistic loss weighted by a matrix H: -sum over classes c of H[label, c] log
    p[c], with p the softmax of the scores, at least 1e-20; summed and divided.

    Bottoms: scores (outer..., C, inner...) with classes along `axis`; labels, outer * inner whole
    numbers in [0, C); optionally H (1, 1, C, C), which else is read from the file `source` (a
    BlobProto). Tops: the loss, a scalar; optionally the probabilities. Labels and H take no
    gradient. Messages: infogain_loss_param, loss_param (as SoftmaxWithLoss).

    Errors: no matrix, or one that is not C x C; a label outside [0, C).
    """

    matrix: Tensor  # from the file; a third bottom replaces it

    source: str | None = option()
    axis: int = option()

    def setup(self, x: Shape, label: Shape, matrix: Shape | None = None) -> None:
        if matrix is None:
            if not self.source:
                raise NetError("Infogain matrix source must be specified.")
            stored = to_array(read_binary(self.source, caffe_pb2.BlobProto))
            self.register_buffer("matrix", torch.from_numpy(stored), persistent=False)

    def top_shapes(self, x: Shape, label: Shape, matrix: Shape | None = None) -> list[Shape]:
        check_label_count(x, label, self.axis)
        _, classes, _ = sizes_around(x, self.axis)
        count = prod(tuple(self.matrix.shape) if matrix is None else matrix)
        if count != classes * classes:
            raise NetError(f"the infogain matrix must have {classes} x {classes} values, found"
                           f" {count}.")  # fmt: skip
        return [(), x][: self.top_count]

    def forward(
        self, x: Tensor, label: Tensor, matrix: Tensor | None = None
    ) -> Tensor | list[Tensor]:
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        h = (self.matrix if matrix is None else matrix.detach()).reshape(classes, classes)
        index, counted = class_labels(label.reshape(outer, inner), classes, self.ignore_label)
        rows = h[index].movedim(-1, 1)  # (outer, classes, inner)
        scores = x.reshape(outer, classes, inner)
        if counted is not None:
            rows = rows * counted[:, None]
            scores = scores.where(counted[:, None], 0)
        log_p = torch.log_softmax(scores, 1)
        loss = -(rows * floored(log_p, log(LOG_FLOOR))).sum() / self.divisor(outer, inner, counted)
        if self.top_count < 2:
            return loss
        return [loss, torch.softmax(x.detach(), self.axis)]


@layer(
    "ConfidencePenaltyLoss",
    bottoms=2,
    tops=1,
    fork="caffe-windows",
    is_loss=True,
    fixed_bottoms=(1,),
)
class ConfidencePenaltyLoss(Layer):
    """The loss of probabilities with a part of each label spread over the other classes: the sum
    over items of -(1 - beta) log p[label] - beta / (N - 1) times the sum of log p over the other
    classes, divided by N; p is at least 1e-20.

    N - 1, of items, is what the fork divides by, in place of the other classes; here it is at
    least 1.

    Bottoms: probabilities (N, C...); labels (N) in [0, C) (no gradient). Top: a scalar. Message:
    confidence_penalty_loss_param.

    Errors: not one label for each item; a label outside [0, C).
    """

    beta: float = option()

    def top_shapes(self, p: Shape, label: Shape) -> list[Shape]:
        check_one_label_an_item(p, label)
        return [()]

    def forward(self, p: Tensor, label: Tensor) -> Tensor:
        rows = as_rows(p)
        index, _ = class_labels(label.reshape(-1, 1), rows.shape[1], None)
        share = self.beta / max(1, len(rows) - 1)
        weights = torch.full_like(rows, share).scatter(1, index, 1 - self.beta)
        logs = rows.clamp_min(LOG_FLOOR).log().detach()
        terms = weights * (logs + (rows - rows.detach()) / rows.detach().clamp_min(LOG_FLOOR))
        return -terms.sum() / max(1, len(rows))
