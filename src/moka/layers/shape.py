"""Layers that only move data about: copies, joins and new shapes."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, Shape, canonical_axis, param
from moka.layers.registry import layer


@layer("Split", bottoms=1, tops=(1, None))
class Split(Layer):
    """The same blob under several names, so that each reader has its own gradient to write.

    Bottom: any shape. Tops: the bottom, in the same memory; its gradient is the sum of theirs.
    Inserted where a blob is used more than once; may be written too.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        return [x] * len(self.config.top)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x.view_as(x) for _ in self.config.top]


@layer("Concat", bottoms=(1, None), tops=1)
class Concat(Layer):
    """Bottoms joined along one axis.

    Bottoms: equal shapes but for `axis`. Top: the sum of their sizes there. Message: concat_param
    (`concat_dim` is an older name of `axis`).

    Errors: shapes that differ elsewhere; both names given.
    """

    axis = param(unset_is_none=True)
    concat_dim = param(unset_is_none=True)

    def setup(self, *bottom_shapes: Shape) -> None:
        if self.axis is not None and self.concat_dim is not None:
            raise NetError("give either axis or concat_dim, not both.")
        axis = self.concat_dim if self.axis is None else self.axis
        self.join = canonical_axis(1 if axis is None else axis, bottom_shapes[0])

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        first, k = bottom_shapes[0], self.join
        for x in bottom_shapes:
            if (x[:k], x[k + 1 :]) != (first[:k], first[k + 1 :]) or len(x) != len(first):
                raise NetError(
                    f"All inputs must have the same shape, except at concat_axis {k}: {first}"
                    f" vs. {x}."
                )
        return [(*first[:k], sum(x[k] for x in bottom_shapes), *first[k + 1 :])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return torch.cat(bottoms, self.join) if len(bottoms) > 1 else bottoms[0].view_as(bottoms[0])


@layer("Flatten", bottoms=1, tops=1)
class Flatten(Layer):
    """Axes from `axis` to `end_axis` become one, in the same memory.

    Bottom: (..., a, ..., z, ...). Top: (..., a * ... * z, ...). Message: flatten_param.

    Errors: end_axis before axis; in-place use.
    """

    axis = param()
    end_axis = param()

    def setup(self, x: Shape) -> None:
        if list(self.config.bottom) == list(self.config.top):
            raise NetError("Flatten does not allow in-place computation: give its top a new name.")
        self.first = canonical_axis(self.axis, x)
        self.last = canonical_axis(self.end_axis, x)
        if self.last < self.first:
            raise NetError(f"end_axis {self.end_axis} lies before axis {self.axis}.")

    def top_shapes(self, x: Shape) -> list[Shape]:
        middle = prod(x[self.first : self.last + 1])
        return [(*x[: self.first], middle, *x[self.last + 1 :])]

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.first, self.last)


@layer("Silence", bottoms=(1, None), tops=0)
class Silence(Layer):
    """Takes blobs nobody else wants, so that they are no outputs; their gradient is zero."""

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        return []

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        return []
