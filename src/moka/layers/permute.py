"""Layers that put axes in another order."""

from __future__ import annotations

from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, refuse_in_place
from moka.layers.options import option
from moka.layers.registry import layer
from moka.types import Shape


@layer("Permute", bottoms=1, tops=1, fork="SSD", bfloat16="keeps")
class Permute(Layer):
    """The axes of a blob in another order.

    Bottom: any shape. Top: axis k is axis order[k] of the bottom; axes that `order` does not name
    follow in their old order. Message: permute_param. Without any `order` the blob stays as it is.

    Errors: an axis that the bottom does not have, or that is named twice; in-place use.
    """

    order: tuple[int, ...] = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        return [tuple(x[axis] for axis in self._axes(len(x)))]

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self._axes(x.dim())).clone()

    def _axes(self, count: int) -> list[int]:
        """All axes in their new order."""
        for axis in self.order:
            if axis >= count:
                raise NetError(f"order names axis {axis} of a blob with {count} axes.")
            if self.order.count(axis) > 1:
                raise NetError(f"order names axis {axis} twice.")
        return [*self.order, *(axis for axis in range(count) if axis not in self.order)]
