"""The loss of absolute differences, as it trains optical flow."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import require_axes, shape_text
from moka.types import Shape


@layer("L1Loss", bottoms=(1, 2), tops=1, fork="FlowNet2", is_loss=True)
class L1Loss(Layer):
    """The sum of absolute differences, divided: sum |a - b| / N.

    l2_per_location: the sum over positions of sqrt(sum over channels (a - b)^2 + epsilon), the end
    point error of optical flow; l2_prescale_by_channels divides the inner sum by C. A difference
    that is NaN counts as 0. Differences (with l2_per_location: square roots before epsilon) smaller
    than `plateau` count as 0. normalize_by_num_entries divides by the number of differences other
    than NaN, divided by C, in place of N.

    Bottoms: a (N, C, ...), optionally b of the same shape (else a are the differences); both take
    gradients, none where a difference counts as 0. Top: a scalar. Message: l1_loss_param.
    Ilg et al., 2017 (FlowNet2).

    Errors: bottoms of different shapes.
    """

    l2_per_location: bool = option()
    l2_prescale_by_channels: bool = option()
    normalize_by_num_entries: bool = option()
    epsilon: float = option(not_negative)
    plateau: float = option(not_negative)

    def top_shapes(self, a: Shape, *b: Shape) -> list[Shape]:
        require_axes(2, a)
        for shape in b:
            if shape[:2] != a[:2] or prod(shape) != prod(a):
                raise NetError(
                    f"Inputs must have the same dimension: {shape_text(a)} vs. {shape_text(shape)}."
                )
        return [()]

    def forward(self, a: Tensor, *b: Tensor) -> Tensor:
        apart = a - b[0].reshape(a.shape) if b else a
        valid = ~apart.isnan()
        apart = apart.where(valid, 0)
        if self.normalize_by_num_entries:
            count = (valid.sum() / max(1, a.shape[1])).clamp_min(torch.finfo(a.dtype).tiny)
        else:
            count = a.new_full((), max(1, len(a)))
        if self.l2_per_location:
            squared = apart.square().sum(1)
            if self.l2_prescale_by_channels:
                squared = squared / max(1, a.shape[1])
            if self.plateau:
                squared = squared.where(squared >= self.plateau**2, 0)
            terms = (squared + self.epsilon).clamp_min(torch.finfo(a.dtype).tiny).sqrt()
        else:
            terms = apart.abs()
            if self.plateau:
                terms = terms.where(terms >= self.plateau, 0)
        return terms.sum() / count
