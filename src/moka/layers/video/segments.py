"""Layers over the segments of a video, as temporal segment networks have them."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import canonical_axis
from moka.schema import caffe_pb2
from moka.types import Shape


@layer(
    "Gather",
    bottoms=(1, None),
    tops=(1, None),
    one_top_each=True,
    views=True,
    fork="yjxiong's Caffe",
)
class Gather(Layer):
    """Passes its bottoms on. Where several processes train with MPI it joins the batches of all.

    Bottoms and tops: any shape. With Moka each process keeps its own part of a batch, and the
    solver averages the gradients, so nothing has to be joined.
    """

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        return [x.view_as(x) for x in bottoms]


@layer(
    "Scatter",
    bottoms=(1, None),
    tops=(1, None),
    one_top_each=True,
    views=True,
    fork="yjxiong's Caffe",
)
class Scatter(Gather):
    """Passes its bottoms on; the reverse of Gather. Bottoms and tops: any shape."""


@layer("BatchReduction", bottoms=1, tops=1, fork="yjxiong's Caffe")
class BatchReduction(Layer):
    """Reduces one axis to few positions: a video's segments to one score for the video.

    `level: 1` (default) reduces the axis as a whole: the bottom (..., T, rest...) becomes
    (..., rest...). Otherwise level l takes the next l * l of its T positions, which the levels
    have to use up, and the top is (..., levels, rest...): a pyramid. Of `reduction_param`,
    `operation` is SUM (default), MEAN, or TOPK with one level: the mean of the `k` largest; `axis`
    is the axis; `coeff` has no effect, as in the fork. With `pos: true` and one level the bottom
    is (..., T, T, rest...), and of segment t only position t of the second of these axes counts.
    Message: batch_reduction_param. Wang et al., 2016 (temporal segment networks).

    Errors: levels that need another number of positions; another operation; k larger than the
    number of positions; TOPK or pos with several levels.
    """

    level: tuple[int, ...] = option(positive)
    reduction_param: caffe_pb2.ReductionParameter = option()
    pos: bool = option()

    def setup(self, x: Shape) -> None:
        self.levels = self.level or (1,)
        self.as_a_whole = self.levels == (1,)
        operation = self.reduction_param.operation
        self.operation = caffe_pb2.ReductionParameter.ReductionOp.Name(operation)
        if self.operation not in ("SUM", "MEAN", "TOPK"):
            raise NetError(f"operation must be SUM, MEAN or TOPK, got {self.operation}.")
        if len(self.levels) > 1 and (self.pos or self.operation == "TOPK"):
            what = "pos" if self.pos else "operation TOPK"
            raise NetError(f"{what} takes one level, got {len(self.levels)}.")
        if self.pos and self.operation == "TOPK":
            raise NetError("pos goes with operation SUM or MEAN, got TOPK.")

    def top_shapes(self, x: Shape) -> list[Shape]:
        axis = canonical_axis(self.reduction_param.axis, x)
        wanted = x[axis] if self.as_a_whole else sum(n * n for n in self.levels)
        if x[axis] != wanted:
            raise NetError(
                f"levels {self.levels} need {wanted} positions along axis {axis}, got a bottom of"
                f" shape {x}."
            )
        if self.pos and (len(x) < axis + 2 or x[axis + 1] != x[axis]):
            raise NetError(
                f"with pos axis {axis + 1} must be as long as axis {axis}, got a bottom of shape"
                f" {x}."
            )
        if self.operation == "TOPK" and not 1 <= self.reduction_param.k <= x[axis]:
            raise NetError(
                f"k must be between 1 and the {x[axis]} positions, got {self.reduction_param.k}."
            )
        kept = () if self.as_a_whole else (len(self.levels),)
        return [(*x[:axis], *kept, *x[axis + (2 if self.pos else 1) :])]

    def forward(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape)
        axis = canonical_axis(self.reduction_param.axis, shape)
        if self.pos:
            x = x.diagonal(dim1=axis, dim2=axis + 1).movedim(-1, axis)
        outer, inner = prod(shape[:axis]), prod(x.shape[axis + 1 :])
        rows = x.reshape(outer, shape[axis], inner)
        counts = [shape[axis]] if self.as_a_whole else [n * n for n in self.levels]
        parts = [self._reduced(part) for part in torch.split(rows, counts, 1)]
        (top,) = self.top_shapes(shape)
        return torch.stack(parts, 1).reshape(top)

    def _reduced(self, part: Tensor) -> Tensor:
        """(outer, positions, inner) to (outer, inner)."""
        if self.operation == "TOPK":
            return part.topk(self.reduction_param.k, dim=1).values.mean(1)
        return part.mean(1) if self.operation == "MEAN" else part.sum(1)
