"""Losses that rank pairs above hard negatives, which are drawn by chance."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import Check, not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, require_axes, times
from moka.types import Shape

PAIR = 2
a_pair = Check(lambda v: v >= PAIR, ">= 2")


@layer(
    "RankHardLoss",
    bottoms=2,
    tops=1,
    message="rank_param",
    other_messages=("rank_hard_loss_param",),
    is_loss=True,
    fixed_bottoms=(1,),
    fork="caffe-video_triplet",
)
class RankHardLoss(Layer):
    """Pull a pair together and push chosen items with other labels away from both.

    The items are groups of pair_size, of which the first two are a pair a, b. With x y the product
    of two items: for each chosen n the sum of max(0, margin - a b + a n) and max(0, margin - a b +
    b n); all of these are summed up and divided by 2 neg_num N / pair_size.

    Of the items with another label than a, those for which the first term is above 0 are chosen, if
    they are at most neg_num. Of more, by chance: neg_num hard_ratio of the neg_num with the largest
    a n, and neg_num rand_ratio of all others.

    Bottoms: items (N, K...), mostly of unit length; labels (N), no gradient. Top: a scalar.
    Message: rank_param or rank_hard_loss_param, with all five options. Wang and Gupta, 2015.

    Errors: an option is missing; N is no multiple of pair_size; not one label for each item.

    The fork leaves loss_weight out of the gradient; here it multiplies it.
    """

    neg_num: int = option(positive, required=True)
    pair_size: int = option(a_pair, required=True)
    hard_ratio: float = option(not_negative, required=True)
    rand_ratio: float = option(not_negative, required=True)
    margin: float = option(required=True)

    @property
    def is_pure(self) -> bool:
        return False  # it draws in testing too

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        require_axes(1, x, label)
        if x[0] % self.pair_size:
            raise NetError(f"items must be a multiple of pair_size {self.pair_size}, got {x[0]}.")
        if prod(label) != x[0]:
            raise NetError(f"needs one label for each of {x[0]} items, got shape {label}.")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        items, labels = as_rows(x), label.reshape(-1)
        first, second = items[:: self.pair_size], items[1 :: self.pair_size]
        own = self.margin - (first * second).sum(1, keepdim=True)
        costs = [(own + anchor @ items.t()).clamp_min(0) for anchor in (first, second)]
        with torch.no_grad():
            is_other = labels != labels[:: self.pair_size, None]
            chosen = self._chosen(first @ items.t(), is_other & (costs[0] > 0))
        groups = len(items) * self.neg_num // self.pair_size
        return ((costs[0] + costs[1]) * chosen).sum() / max(1, PAIR * groups)

    def _chosen(self, alike: Tensor, candidates: Tensor) -> Tensor:
        """A mask of the negatives of each pair, among its candidates.

        Args:
            alike: (pairs, N), the larger the harder.
        """
        hard = candidates & (_rank(-alike, candidates) < self.neg_num)
        picked = _drawn(hard, times(self.neg_num, self.hard_ratio))
        rest = candidates & ~picked
        picked = picked | _drawn(rest, times(self.neg_num, self.rand_ratio))
        few = candidates.sum(1, keepdim=True) <= self.neg_num
        return torch.where(few, candidates, picked)


def _rank(values: Tensor, members: Tensor) -> Tensor:
    """The rank of each member of a row among them, by rising values; others come behind them."""
    order = values.masked_fill(~members, torch.inf).argsort(dim=1, stable=True)
    ranks = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks)


def _drawn(members: Tensor, count: int) -> Tensor:
    """At most `count` members of each row, drawn by chance."""
    draws = torch.rand(members.shape, device=members.device)
    return members & (_rank(draws, members) < count)
