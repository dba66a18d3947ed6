"""The loss of powers of differences whose exponents change in training, as for optical flow."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.options import not_negative, option
from moka.layers.passes import PassCounter
from moka.layers.registry import layer
from moka.layers.shapes import require_axes, shape_text
from moka.types import Shape


@layer("LpqLoss", bottoms=(1, 2), tops=1, fork="FlowNet2", is_loss=True)
class LpqLoss(PassCounter):
    """A sum over positions of a power of a sum over channels of powers of differences:
    sum of (q_epsilon + sum over channels of (|a - b| + p_epsilon)^p)^q, / N.

    l2_prescale_by_channels divides the inner sum by C. A difference that is NaN counts as 0 and
    takes no gradient. normalize_by_num_entries divides by the number of differences other than NaN,
    divided by C, in place of N. `p` and `q` are one exponent each, or several, of which a pair
    counts from the pass on that `pq_episode_starts_at_iter` names beside it (0 for the first;
    FlowNet2 counts the solver's iterations). The number of passes is kept in a solver's snapshots.

    Bottoms: a (N, C, ...), optionally b of the same shape (else a are the differences); both take
    gradients. Top: a scalar. Message: lpq_loss_param.

    Errors: bottoms of different shapes; other numbers of p, q and starts; starts that do not rise
    from 0.
    """

    p: tuple[float, ...] = option()
    q: tuple[float, ...] = option()
    pq_episode_starts_at_iter: tuple[int, ...] = option()
    p_epsilon: float = option(not_negative)
    q_epsilon: float = option(not_negative)
    l2_prescale_by_channels: bool = option()
    normalize_by_num_entries: bool = option()

    def setup(self, a: Shape, *b: Shape) -> None:
        starts = self.pq_episode_starts_at_iter
        if not starts and len(self.p) == len(self.q) == 1:
            starts = (0,)
        if not len(self.p) == len(self.q) == len(starts) or not starts:
            raise NetError(
                f"p and q need a value for each of pq_episode_starts_at_iter, got {len(self.p)},"
                f" {len(self.q)} and {len(starts)}."
            )
        if starts[0] or any(b <= a for a, b in pairwise(starts)):
            raise NetError(f"pq_episode_starts_at_iter must rise from 0, got {starts}.")
        self.starts = starts

    def top_shapes(self, a: Shape, *b: Shape) -> list[Shape]:
        require_axes(2, a)
        for shape in b:
            if shape[:2] != a[:2] or prod(shape) != prod(a):
                raise NetError(
                    f"Inputs must have the same dimension: {shape_text(a)} vs. {shape_text(shape)}."
                )
        return [()]

    def again(self, a: Tensor, *b: Tensor) -> Tensor:
        step = max(0, self.passes - 1)
        episode = sum(start <= step for start in self.starts) - 1
        apart = a - b[0].reshape(a.shape) if b else a
        valid = ~apart.isnan()
        inner = (apart.where(valid, 0).abs() + self.p_epsilon).pow(self.p[episode]).sum(1)
        if self.l2_prescale_by_channels:
            inner = inner / max(1, a.shape[1])
        terms = (inner + self.q_epsilon).pow(self.q[episode])
        if self.normalize_by_num_entries:
            count = (valid.sum() / max(1, a.shape[1])).clamp_min(torch.finfo(a.dtype).tiny)
            return terms.sum() / count
        return terms.sum() / max(1, len(a))
