"""The loss of triplets: an anchor, something alike and something else."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.labels import check_one_label_an_item
from moka.layers.options import Check, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, require_axes, shape_text
from moka.types import Shape

TRIPLET = 3  # anchor, positive, negative
zero_or_one = Check(lambda v: v in (0, 1), "0 or 1")


@layer("TripletLoss", bottoms=(1, 6), tops=1, fork="caffe-windows", is_loss=True)
class TripletLoss(Layer):
    """Pull anchors to positives and away from negatives: the sum of
    max(0, margin + |a - p|^2 - |a - n|^2) / (2 N).

    Bottoms: anchors a, positives p, negatives n, (N, ...) each; all take gradients. Top: a scalar.
    Message: triplet_loss_param (`margin`, 1 by default). Schroff et al., 2015.

    Other numbers of bottoms have other forks. Four: a weight for each triplet (N), which takes no
    gradient. Five: blobs u, v (N, ...), |u - v|^2 is added for each triplet; a sixth bottom is not
    used. One, or two with labels that are not used: sets of an anchor, a positive and
    num_triplets (or num_negatives) negatives, one behind the other; N counts the sets, each
    negative makes a triplet, and with use_pair (the default) |a - p|^2 is added for each set. With
    losstype 1 a triplet gives max(0, 1 - |a - n|^2 / (|a - p|^2 + margin)). Wohlhart and Lepetit,
    2015.

    Errors: bottoms of different shapes; sets without a number of negatives; a number of items that
    is no multiple of a set's.
    """

    margin: float = option()
    losstype: int = option(zero_or_one)
    num_triplets: int | None = option(positive)
    num_negatives: int | None = option(positive)
    use_pair: int = option()

    def setup(self, a: Shape, *others: Shape) -> None:
        self.in_sets = 1 + len(others) < TRIPLET
        negatives = self.num_triplets or self.num_negatives
        if self.in_sets and not negatives:
            raise NetError("sets need num_triplets: how many negatives a set has.")
        self.set_size = 2 + (negatives or 0)

    def top_shapes(self, a: Shape, *others: Shape) -> list[Shape]:
        require_axes(1, a)
        if self.in_sets:
            if a[0] % self.set_size:
                raise NetError(
                    f"the items must be sets of {self.set_size}, got {a[0]} (shape {a})."
                )
            return [()]
        p, n, *more = others
        if len(more) == 1:
            check_one_label_an_item(a, more[0])
        pairs = [(a, p), (a, n), *pairwise(more[:2])]
        for one, other in pairs:
            if one[:1] != a[:1] or other[:1] != a[:1] or prod(one) != prod(other):
                raise NetError(
                    f"Inputs must have the same dimension: {shape_text(one)} vs."
                    f" {shape_text(other)}."
                )
        return [()]

    def forward(self, a: Tensor, *others: Tensor) -> Tensor:
        if self.in_sets:
            return self._loss_of_sets(as_rows(a))
        p, n = (x.reshape(a.shape) for x in others[:2])
        losses = self._triplets(_squared(a, p), _squared(a, n))
        if len(others) == TRIPLET:
            losses = losses * others[2].detach().reshape(-1)
        elif len(others) > TRIPLET:
            losses = losses + _squared(others[2], others[3].reshape(others[2].shape))
        return losses.sum() / (2 * max(1, len(a)))

    def _loss_of_sets(self, rows: Tensor) -> Tensor:
        sets = rows.view(-1, self.set_size, rows.shape[1])
        near = (sets[:, 0] - sets[:, 1]).square().sum(1)
        far = (sets[:, :1] - sets[:, 2:]).square().sum(2)
        total = self._triplets(near[:, None], far).sum()
        if self.use_pair:
            total = total + near.sum()
        return total / (2 * max(1, len(sets)))

    def _triplets(self, near: Tensor, far: Tensor) -> Tensor:
        """The loss of each triplet from its squared distances."""
        if self.losstype:
            return torch.relu(1 - far / (near + self.margin))
        return torch.relu(self.margin + near - far)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """The squared distance of each item (N,)."""
    return as_rows(a - b).square().sum(1)
