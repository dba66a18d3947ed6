"""Losses of distances between items and classes, as InnerDistance computes them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.gradient import with_gradient_of
from moka.layers.labels import check_one_label_an_item, class_labels
from moka.layers.limits import limited
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows
from moka.types import Shape

OUTLIER = 4.0  # positive_outlier_thresh in SoftContrastiveLoss, which has no such option


class Distances(NamedTuple):
    """The distances of a batch to the centers of C classes.

    Attributes:
        own: to the center of the item's class (N, 1).
        all: to each center (N, C).
        others: True for the classes that are not the item's (N, C).
    """

    own: Tensor
    all: Tensor
    others: Tensor


def only_largest(terms: Tensor, among: Tensor) -> Tensor:
    """The terms (N, C), of which each row keeps only the largest one of a mask (N, C)."""
    if terms.shape[1] == 0:
        return terms
    best = terms.detach().masked_fill(~among, -torch.inf).argmax(1, keepdim=True)
    return torch.zeros_like(terms).scatter(1, best, terms.gather(1, best))


class ClassDistanceLoss(Layer):
    """Base of losses of distances to classes.

    Bottoms: distances (N, C...), labels (N) in [0, C), optionally a weight for each item's gradient
    (N). Tops: the loss, a scalar; optionally its statistics.
    """

    weights_are_relative = True  # an item's weight is divided by the mean of all
    statistics = 2

    def top_shapes(self, x: Shape, label: Shape, *weights: Shape) -> list[Shape]:
        for each in (label, *weights):
            check_one_label_an_item(x, each)
        if prod(x[1:]) < 2:
            raise NetError(f"needs distances to two classes or more, got shape {x}.")
        return [(), (self.statistics,)][: self.top_count]

    def losses(self, distances: Distances) -> tuple[Tensor, Sequence[Tensor]]:
        """The loss of each item (N,), and the statistics, scalars."""
        raise NotImplementedError

    def forward(self, x: Tensor, label: Tensor, *weights: Tensor) -> list[Tensor]:
        rows = as_rows(x)
        own = class_labels(label.reshape(-1, 1), rows.shape[1], None)[0]
        others = torch.ones_like(rows, dtype=torch.bool).scatter(1, own, value=False)
        losses, statistics = self.losses(Distances(rows.gather(1, own), rows, others))
        for weight in weights:
            factor = weight.detach().reshape(-1)
            if self.weights_are_relative:
                factor = factor / factor.mean()
            losses = with_gradient_of(losses, losses * factor)
        loss = losses.sum() / max(1, len(rows))
        return [loss, torch.stack(list(statistics))][: self.top_count]


def mean_distances(near: Tensor, far: Tensor) -> list[Tensor]:
    """Mean over items of values (N, 1), and over items and other classes of (N, C)."""
    items, classes = max(1, len(far)), far.shape[1]
    return [near.detach().sum() / items, far.detach().sum() / (items * (classes - 1))]


@layer(
    "GeneralContrastiveLoss",
    bottoms=(2, 3),
    tops=(1, 2),
    message="general_contrastive_loss_param",
    fork="caffe-windows",
    is_loss=True,
    fixed_bottoms=(1, 2),
)
class GeneralContrastiveLoss(ClassDistanceLoss):
    """Pull items to their class and push them away from others: the sum over items and classes of
    positive_weight min(max(d - positive_margin, 0), positive_outlier_thresh) for the own class and
    negative_weight max(negative_margin - d, 0) for each other one, divided by N.

    exp_negative_weight: another class nearer than negative_margin gives negative_weight exp(-d).
    max_negative_only: each item keeps its largest negative term; max_positive_only: only the
    smallest of all positive terms stays, as in the fork. positive_first: an item whose own class
    is farther than positive_upper_bound has no negative terms. add_intra_mae: a running mean of
    the positive distances, old 0.99 + new 0.01 and at most max_negative_margin, is added to
    negative_margin; it is kept in a solver's snapshots. normalize_negative: in the gradient the
    negative terms are divided by s = their summed derivative / (normalize_negative N), if s is
    above positive_weight. `square` has no effect, as in the fork.

    Bottoms: distances (N, C...), as InnerDistance makes them; labels (N) in [0, C); optionally
    weights of the items (N), which multiply the gradient divided by their mean. Tops: a scalar;
    optionally mean positive distance, mean violation of the negative margin, and with
    add_intra_mae the running mean. Message: general_contrastive_loss_param.

    Errors: less than two classes; not one label for each item; a label outside [0, C).
    """

    positive_margin: float = option()
    negative_margin: float = option()
    positive_weight: float = option()
    negative_weight: float = option()
    normalize_negative: float | None = option(unset_is_none=True)
    positive_outlier_thresh: float = option()
    square: bool = option()
    max_negative_only: bool = option()
    max_positive_only: bool = option()
    positive_first: bool = option()
    positive_upper_bound: float = option()
    exp_negative_weight: bool = option()
    add_intra_mae: bool = option()
    max_negative_margin: float = option()

    def setup(self, x: Shape, label: Shape, *weights: Shape) -> None:
        self.statistics = 2 + self.add_intra_mae
        self.intra_mae = 0.0
        self._before = 0.0  # intra_mae before the last pass

    def run_state(self) -> list[Tensor]:
        return [torch.tensor([self.intra_mae], dtype=torch.float64)]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        self.intra_mae = float(tensors[0])

    def again(self, x: Tensor, label: Tensor, *weights: Tensor) -> list[Tensor]:
        self.intra_mae = self._before
        return self.forward(x, label, *weights)

    def losses(self, distances: Distances) -> tuple[Tensor, Sequence[Tensor]]:
        own, others = distances.own, distances.others
        self._before = self.intra_mae
        margin = self.negative_margin + self.intra_mae * self.add_intra_mae
        near = limited(own - self.positive_margin, 0, self.positive_outlier_thresh)
        positive = self.positive_weight * near
        if self.max_positive_only and len(near):
            first = torch.zeros_like(near, dtype=torch.bool)
            first[positive.detach().argmin()] = True
            positive = positive.where(first, 0)
        violation = limited(torch.where(others, margin - distances.all, 0), 0)
        close = violation > 0
        negative = self.negative_weight * violation
        if self.exp_negative_weight:
            negative = self.negative_weight * torch.where(close, (-distances.all).exp(), 0)
        if self.max_negative_only:
            negative = only_largest(negative, others)
        if self.positive_first:
            negative = negative.where(own <= self.positive_upper_bound, 0)
        statistics = mean_distances(near, violation)
        if self.add_intra_mae:
            mean = 0.99 * self.intra_mae + 0.01 * float(statistics[0])
            self.intra_mae = min(mean, self.max_negative_margin)
            statistics.append(own.new_tensor(self.intra_mae))
        negative = self._normalized(negative)
        return positive[:, 0] + negative.sum(1), statistics

    def _normalized(self, negative: Tensor) -> Tensor:
        """The negative terms (N, C), with a gradient that is no larger than asked."""
        if self.normalize_negative is None or not len(negative):
            return negative
        used = negative.detach()
        slopes = used if self.exp_negative_weight else self.negative_weight * (used != 0)
        scale = float(slopes.sum().abs()) / self.normalize_negative / len(negative)
        if scale <= self.positive_weight:
            return negative
        return with_gradient_of(negative, negative / scale)


@layer(
    "SoftContrastiveLoss",
    bottoms=(2, 3),
    tops=(1, 2),
    message="soft_contrastive_loss_param",
    fork="caffe-windows",
    is_loss=True,
    fixed_bottoms=(1, 2),
)
class SoftContrastiveLoss(ClassDistanceLoss):
    """A contrastive loss with a soft maximum over the other classes, summed over items and divided
    by N: positive_weight p + log(sum of exp(negative_weight v) over the other classes with v > 0).

    p = min(max(d - positive_margin, 0), 4) for the own class, v = negative_margin - d for another
    one; with `square` both are squared. An item without v > 0 has no second term. The fork takes
    negative_weight in place of exponent_scale, which has no effect.

    Bottoms: distances (N, C...), as InnerDistance makes them; labels (N) in [0, C); optionally
    weights of the items (N), which multiply the gradient divided by their mean. Tops: a scalar;
    optionally mean positive distance and mean violation of the negative margin. Message:
    soft_contrastive_loss_param. With `square` the gradient is the derivative; the fork's is half of
    it and forgets positive_margin.

    Errors: less than two classes; not one label for each item; a label outside [0, C).
    """

    positive_margin: float = option()
    negative_margin: float = option()
    positive_weight: float = option()
    negative_weight: float = option()
    exponent_scale: float = option()
    square: bool = option()

    def losses(self, distances: Distances) -> tuple[Tensor, Sequence[Tensor]]:
        near = limited(distances.own - self.positive_margin, 0, OUTLIER)
        violation = torch.where(distances.others, self.negative_margin - distances.all, 0)
        violation = limited(violation, 0)
        close = violation > 0
        p, v = (near.square(), violation.square()) if self.square else (near, violation)
        exponents = torch.where(close, self.negative_weight * v, -torch.inf)
        has_any = close.any(1)
        soft = exponents.where(has_any[:, None], 0).logsumexp(1).where(has_any, 0)
        return self.positive_weight * p[:, 0] + soft, mean_distances(near, violation)


@layer(
    "GeneralTripletLoss",
    bottoms=(2, 3),
    tops=(1, 2),
    message="general_triplet_loss_param",
    fork="caffe-windows",
    is_loss=True,
    fixed_bottoms=(1, 2),
)
class GeneralTripletLoss(ClassDistanceLoss):
    """A triplet loss on distances to classes: the sum over items and other classes of
    negative_weight max(d_own + margin - d, 0), divided by N.

    hardest_only: each item keeps its largest term. positive_first: an item whose own class is
    farther than positive_upper_bound has no terms. The gradient is the fork's: -negative_weight / N
    for each class with a term, and positive_weight / N for the own class if there is one, or with
    add_center_loss (the default) or if positive_first took them away, in any case.

    Bottoms: distances (N, C...), as InnerDistance makes them; labels (N) in [0, C); optionally
    weights of the items (N), which multiply the gradient. Tops: a scalar; optionally the mean
    distance to the own class and to the others. Message: general_triplet_loss_param.

    Errors: less than two classes; not one label for each item; a label outside [0, C).
    """

    weights_are_relative = False

    margin: float = option()
    add_center_loss: bool = option()
    hardest_only: bool = option()
    positive_first: bool = option()
    positive_upper_bound: float = option()
    positive_weight: float = option()
    negative_weight: float = option()

    def losses(self, distances: Distances) -> tuple[Tensor, Sequence[Tensor]]:
        own, others = distances.own, distances.others
        violation = torch.where(others, own + self.margin - distances.all, 0).detach().clamp_min(0)
        if self.hardest_only:
            violation = only_largest(violation, others)
        pulled = own.new_full(own.shape, bool(self.add_center_loss)).bool()
        if self.positive_first:
            far = own.detach() > self.positive_upper_bound
            violation, pulled = violation.masked_fill(far, 0), pulled | far
        pushed = violation > 0
        pulled = pulled | pushed.any(1, keepdim=True)
        moved = self.positive_weight * (own * pulled).sum(1)
        moved = moved - self.negative_weight * (distances.all * pushed).sum(1)
        losses = with_gradient_of(self.negative_weight * violation.sum(1), moved)
        return losses, mean_distances(own, distances.all * others)


@layer(
    "NCALoss",
    bottoms=(2, 3),
    tops=(1, 2),
    message="nca_param",
    fork="caffe-windows",
    is_loss=True,
    fixed_bottoms=(1, 2),
)
class NCALoss(ClassDistanceLoss):
    """The distance to the own class plus the sum of exp(-d) over the others, the mean over items.

    min_negative_only: only the nearest other class counts.

    Bottoms: distances (N, C...), as InnerDistance makes them; labels (N) in [0, C); optionally
    weights of the items (N), which multiply the gradient divided by their mean. Tops: a scalar;
    optionally the mean distance to the own class and to the others. Message: nca_param.

    Errors: less than two classes; not one label for each item; a label outside [0, C).
    """

    min_negative_only: bool = option()

    def losses(self, distances: Distances) -> tuple[Tensor, Sequence[Tensor]]:
        near, others = distances.own, distances.others
        terms = torch.where(others, (-distances.all).exp(), 0)
        if self.min_negative_only:
            terms = only_largest(terms, others)
        statistics = mean_distances(near, torch.where(others, distances.all, 0))
        return near[:, 0] + terms.sum(1), statistics
