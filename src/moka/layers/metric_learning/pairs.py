"""Layers over all pairs of items."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.arithmetic import maximum
from moka.layers.base import Layer
from moka.layers.gradient import with_gradient_of
from moka.layers.labels import check_one_label_an_item
from moka.layers.limits import limited
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, require_axes, shape_text
from moka.types import Shape


@layer("Pairwise", bottoms=2, tops=1, message="pairwise_param", fork="caffe-windows")
class Pairwise(Layer):
    """All pairs of the rows of two blobs: y[m, n] = the sum, product or maximum of a[m] and b[n].

    Bottoms: a (M, K), b (N, K). Top: (M, N, K). Message: pairwise_param; `coeff`, none or two,
    are factors of a and b in a SUM. A maximum that both have belongs to b.

    Errors: rows of different lengths; another number of coefficients; coefficients without a SUM.
    """

    operation: str = option()
    coeff: tuple[float, ...] = option()

    def setup(self, a: Shape, b: Shape) -> None:
        if self.coeff and (len(self.coeff) != 2 or self.operation == "PROD"):
            raise NetError(
                f"takes two coefficients, and only for a SUM, got {len(self.coeff)} for"
                f" {self.operation}."
            )

    def top_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        require_axes(1, a, b)
        if prod(a[1:]) != prod(b[1:]):
            raise NetError(
                f"the rows of both bottoms must have one length, got shapes {shape_text(a)} and"
                f" {shape_text(b)}."
            )
        return [(a[0], b[0], prod(a[1:]))]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        left, right = as_rows(a)[:, None], as_rows(b)[None]
        if self.operation == "PROD":
            return left * right
        if self.operation == "MAX":
            return maximum(left, right)
        first, second = self.coeff or (1.0, 1.0)
        return first * left + second * right


@layer(
    "BatchContrastiveLoss",
    bottoms=2,
    tops=(1, 2),
    message="batch_contrastive_loss_param",
    fork="caffe-windows",
    is_loss=True,
    fixed_bottoms=(1,),
)
class BatchContrastiveLoss(Layer):
    """A contrastive loss over all pairs of a batch: the mean over pairs i < j of positive_weight
    max(d[i, j] - positive_margin, 0) if both have one label, else of negative_weight
    max(negative_margin - d[i, j], 0).

    max_only: the sum of the largest term of each kind. The gradient is the fork's: that of the sum
    of the terms divided by N in place of the number of pairs, or by 2 with max_only.

    Bottoms: distances (N, N); labels (N). Tops: a scalar; optionally the mean distance of pairs
    with one label and of other pairs, 0 if there are none. Message: batch_contrastive_loss_param.

    Errors: distances that are no square; not one label for each item.
    """

    positive_margin: float = option()
    negative_margin: float = option()
    positive_weight: float = option()
    negative_weight: float = option()
    max_only: bool = option()

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_one_label_an_item(x, label)
        if x[0] and prod(x[1:]) != x[0]:
            raise NetError(f"takes the distances of N items to each other, got shape {x}.")
        return [(), (2,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> list[Tensor]:
        n = len(x)
        first, second = torch.triu_indices(n, n, 1, device=x.device)
        distance = x.reshape(n, n)[first, second]
        alike = (label.reshape(-1)[first] == label.reshape(-1)[second]).to(x)
        positive = alike * self.positive_weight * limited(distance - self.positive_margin, 0)
        negative = self.negative_margin - distance
        negative = (1 - alike) * self.negative_weight * limited(negative, 0)
        if self.max_only and len(distance):
            loss = positive.max() + negative.max()
            loss = with_gradient_of(loss, loss / 2)
        else:
            total = (positive + negative).sum()
            loss = with_gradient_of(total / max(1, len(distance)), total / max(1, n))
        means = [(distance * kind).sum() / kind.sum().clamp_min(1) for kind in (alike, 1 - alike)]
        return [loss, torch.stack(means).detach()][: self.top_count]


@layer(
    "LiftedStructSimilaritySoftmaxLoss",
    bottoms=2,
    tops=1,
    fork="lifted structured embedding",
    is_loss=True,
    fixed_bottoms=(1,),
)
class LiftedStructSimilaritySoftmaxLoss(Layer):
    """Pull items with one label together, against all items of other labels in the batch: the sum
    of max(0, s[i, j] + d[i, j])^2 / (2 P) over the P pairs i < j with one label, where d are
    distances and s[i, j] = log(sum over k of exp(margin - d[i, k]) + exp(margin - d[j, k])), over
    the items k of other labels.

    Bottoms: items (N, ...); labels (N) (no gradient). Top: a scalar, 0 without pairs. Message:
    lifted_struct_sim_softmax_loss_param. Two items at one place give each other no gradient; in
    most forks it is not a number there. A pair without items of other labels does not count, as in
    SINet. Song et al., 2016.

    Errors: not one label for each item.
    """

    margin: float = option()

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_one_label_an_item(x, label)
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        rows, label = as_rows(x), label.reshape(-1).long()
        distance = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        alike = label[:, None] == label
        opposed = ~alike.all(1)  # items that others in the batch differ from
        # A row of no others keeps its values: they count in no pair.
        away = (self.margin - distance).masked_fill(alike & opposed[:, None], -torch.inf)
        push = away.logsumexp(1)
        losses = (torch.logaddexp(push[:, None], push) + distance).clamp_min(0).square()
        pairs = (alike & opposed[:, None]).triu(1).to(losses)
        return (losses * pairs).sum() / (2 * pairs.sum().clamp_min(1))


@layer("CorrelationLoss", bottoms=2, tops=1, fork="caffe-windows", is_loss=True)
class CorrelationLoss(Layer):
    """The mean product of two blobs: sum a b / count.

    Bottoms: a, b (N, 1, ...) of one count; both take gradients. Top: a scalar. No message.

    Errors: bottoms of different counts.
    """

    def top_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        if prod(a) != prod(b):
            raise NetError(
                f"Inputs must have the same dimension: {shape_text(a)} vs. {shape_text(b)}."
            )
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b.reshape(a.shape)).sum() / max(1, a.numel())
