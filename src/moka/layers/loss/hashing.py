"""Losses that train binary codes."""

from __future__ import annotations

from math import log, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.gradient import with_gradient_of, with_scaled_gradient
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, require_axes
from moka.types import Shape


@layer(
    "HashingLoss",
    bottoms=2,
    tops=1,
    is_loss=True,
    fixed_bottoms=(1,),
    fork="deep supervised hashing",
)
class HashingLoss(Layer):
    """Pull the codes of similar items together, push others apart, and draw values to -1 and 1.

    With d^2 the squared distance of the codes of two items: the sum over all pairs of d^2 if they
    are similar, else of max(bi_margin - d^2, 0), divided by N (N - 1); plus tradeoff times the sum
    of ||x| - 1| over all values, divided by N. Items are similar if their labels are equal, or,
    with several labels an item, if both have one above 0 in common.

    Bottoms: codes (N, K); labels (N,) or (N, L), no gradient. Top: a scalar. Message:
    hashing_loss_param. Liu et al., 2016.

    Errors: not the same number of labels for each item.

    As in the fork, the gradient of the sum over pairs is half of what it should be.
    """

    bi_margin: float = option(not_negative)
    tradeoff: float = option(not_negative)

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        require_axes(1, x, label)
        if x[0] != label[0]:
            raise NetError(f"there are {x[0]} codes and labels of shape {label}.")
        if not prod(label[1:]):
            raise NetError(f"needs a label for each code, got shape {label}.")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        codes, labels = as_rows(x), as_rows(label)
        if labels.shape[1] == 1:
            similar = labels.long() == labels.long().t()
        else:
            similar = labels @ labels.t() > 0
        squared = (codes[:, None] - codes).square().sum(2)
        cost = torch.where(similar, squared, (self.bi_margin - squared).clamp_min(0))
        items = max(1, len(codes))
        pairs = cost.triu(1).sum() / max(1, items * (items - 1))
        return with_scaled_gradient(pairs, 0.5) + self.tradeoff * from_ones(codes).sum() / items


def from_ones(x: Tensor) -> Tensor:
    """The distance of each value to -1 or 1. At the ends of its pieces its slope is 1."""
    right = torch.where(x >= 1, x - 1, 1 - x)
    return torch.where(x > 0, right, torch.where(x >= -1, 1 + x, -1 - x))


@layer(
    "PairwiseLoss",
    bottoms=(2, 4),
    tops=1,
    message="pairwise_param",
    is_loss=True,
    fixed_bottoms=(1, 3),
    fork="HashNet and DHN",
)
class PairwiseLoss(Layer):
    """The likelihood of which items are similar, by the products of their codes.

    With p = sigmoid_param times the product of two codes: the mean of log(1 + exp(p)) - p for
    similar pairs, which count class_num times, and log(1 + exp(p)) for the others. From a p of
    l_threshold on, if that is at least 0, log(1 + exp(p)) is p. Two items are similar if the
    product of their labels is above 0; pairs whose product is below 0, or as large as the number of
    labels, do not count. An l_lambda of 0 or less leaves the value out.

    Bottoms: codes (N, K...); labels (N, L...), 0 or 1 each, no gradient. With these two it is
    DHN's: each code is paired with each, and the mean of log(cosh(|x| - 1)) over all values is
    added, unless q_gamma is 0 or less; where |x| - 1 is above a positive q_threshold it is
    |x| - 1 - log(2). HashNet's has the codes and labels of other items as two more bottoms: each
    code is paired with each of those, and nothing is added. Top: a scalar. Message:
    pairwise_param. Zhu et al., 2016 (DHN); Cao et al., 2017 (HashNet).

    Errors: three bottoms; not as many labels as codes, or codes and labels of two sizes.

    The gradient is the forks', times loss_weight, which they leave out: l_lambda times that of the
    pairs, which with four bottoms is twice the exact one, and there sigmoid_param multiplies only
    its first N numbers; q_gamma tanh(|x| - 1) / N for the distances, not divided by K.
    continous_similarity multiplies what a pair adds by 4 s^2 / (a b), with s the product of its
    labels and a, b the squares of each, or by 1 where s is 0.
    """

    l_threshold: float = option()
    q_threshold: float = option()
    l_lambda: float = option()
    q_gamma: float = option()
    class_num: float = option()
    sigmoid_param: float = option()
    continous_similarity: bool = option()

    def top_shapes(self, x: Shape, label: Shape, *others: Shape) -> list[Shape]:
        if len(others) == 1:
            raise NetError("takes codes and labels, or these of two sets of items: 2 or 4 bottoms.")
        require_axes(1, x, label, *others)
        for codes, labels in ((x, label), others or (x, label)):
            if codes[0] != labels[0]:
                raise NetError(f"there are {codes[0]} codes and labels of shape {labels}.")
            if prod(codes) != prod(x) or prod(labels) != prod(label):
                raise NetError(
                    f"both sets must have one size, got codes {x} and {codes}, labels {label} and"
                    f" {labels}."
                )
        return [()]

    def forward(self, x: Tensor, label: Tensor, *others: Tensor) -> Tensor:
        y, other_label = others or (x, label)
        codes, partners = as_rows(x), as_rows(y)
        weight, slope, loss = self._pairs(
            codes.detach(), partners.detach(), as_rows(label), as_rows(other_label)
        )
        count = weight.sum()
        scale = self.l_lambda / count.where(count > 0, 1)
        loss = loss / count.where(count > 0, 1) * (self.l_lambda > 0)
        pull = self._scaled(slope @ partners.detach() * scale, others)
        carrier = (codes * pull).sum()
        if others:
            back = self._scaled(slope.t() @ codes.detach() * scale, others)
            return with_gradient_of(loss, carrier + (partners * back).sum())
        quantization, tanh = self._distances(codes.detach())
        carrier = carrier + (codes * tanh).sum() * (self.q_gamma / max(1, len(codes)))
        return with_gradient_of(loss + quantization, carrier)

    def _pairs(
        self, codes: Tensor, partners: Tensor, labels: Tensor, other_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How much each pair counts, the slope of its term by the product, and the sum of terms."""
        product = codes @ partners.t() * self.sigmoid_param
        alike = labels @ other_labels.t()
        known = (alike >= 0) & (alike < labels.shape[1])
        similar = (known & (alike > 0)).to(codes.dtype)
        terms = F.softplus(product)
        if self.l_threshold >= 0:
            terms = torch.where(product >= self.l_threshold, product, terms)
        weight = (1 + (self.class_num - 1) * similar) * known
        slope = 2 * (torch.sigmoid(product) - similar) * weight
        if self.continous_similarity:
            own = [squares.where(squares != 0, 1) for squares in _squares(labels, other_labels)]
            degree = alike.square() / (own[0][:, None] * own[1])
            slope = slope * 4 * degree.where(degree != 0, 0.25)
        return weight, slope, ((terms - similar * product) * weight).sum()

    def _scaled(self, gradient: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """The gradient with sigmoid_param where HashNet has it: in the first N numbers."""
        if not others:
            return gradient
        factor = torch.ones_like(gradient).flatten()
        factor[: len(gradient)] = self.sigmoid_param
        return gradient * factor.view_as(gradient)

    def _distances(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of what the distances from 1 cost, and its slopes, not divided by anything."""
        apart = codes.abs() - 1
        size = apart.abs()
        cost = size + F.softplus(-2 * size) - log(2)
        if self.q_threshold > 0:
            cost = torch.where(apart > self.q_threshold, (apart - log(2)).abs(), cost)
        mean = cost.sum() / max(1, codes.numel()) * (self.q_gamma > 0)
        return mean, torch.tanh(apart) * torch.where(codes >= 0, 1.0, -1.0).to(codes.dtype)


def _squares(*rows: Tensor) -> list[Tensor]:
    """The sum of squares of each row."""
    return [each.square().sum(1) for each in rows]
