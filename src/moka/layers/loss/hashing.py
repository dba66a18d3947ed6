"""Losses that train binary codes."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.gradient import with_scaled_gradient
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
