"""Layers that put the values of a blob into another order."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, refuse_in_place
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import canonical_axis, require_axes
from moka.types import Shape


@layer("ShuffleChannel", bottoms=1, tops=1, coordinates="same", bfloat16="keeps", fork="ShuffleNet")
class ShuffleChannel(Layer):
    """Mix the channels of groups: the channels, as a table with `group` rows, are read by column.

    Bottom and top: (N, C, ...). Channel g * C/group + k of the bottom is channel k * group + g of
    the top. Message: shuffle_channel_param. Zhang et al., 2017.

    Errors: a C that is not a multiple of group.
    """

    group: int = option(positive)

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        if x[1] % self.group:
            raise NetError(f"channels must be a multiple of group {self.group}, got {x[1]}.")
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(x), self.group, x.shape[1] // self.group, *x.shape[2:])
        columns = rows.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        return columns.view(x.shape)


@layer("Flip", bottoms=1, tops=1, bfloat16="keeps", fork="caffe-windows")
class Flip(Layer):
    """Mirror images: left and right (`flip_width`, the default), top and bottom (`flip_height`).

    Bottom and top: (N, C, H, W). Message: flip_param.

    Errors: a bottom that is not 4-D; in-place use.
    """

    flip_width: bool = option()
    flip_height: bool = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"mirrors images (N, C, H, W), got a bottom of shape {x}.")
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        return x.flip([axis for axis, on in ((2, self.flip_height), (3, self.flip_width)) if on])


@layer("Reverse", bottoms=1, tops=1, bfloat16="keeps", fork="CTPN and Ascend")
class Reverse(Layer):
    """Reverse the order along axes.

    Bottom and top: any shape. Message: reverse_param; `axis` may be given several times, 0 if it is
    not given.

    Errors: an axis that the bottom does not have, or that is named twice; in-place use.
    """

    axis: tuple[int, ...] = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        self._axes(x)
        return [x]

    def _axes(self, x: Shape) -> list[int]:
        axes = [canonical_axis(axis, x) for axis in self.axis or (0,)]
        if len(set(axes)) < len(axes):
            raise NetError(f"an axis is named twice: {self.axis}.")
        return axes

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self._axes(tuple(x.shape)))


@layer("Transpose", bottoms=1, tops=1, bfloat16="keeps", fork="CTPN")
class Transpose(Layer):
    """The axes of a blob in another order.

    Bottom: any shape. Top: axis k is axis dim[k] of the bottom. Message: transpose_param, in which
    `dim` names each axis once.

    Errors: a `dim` that does not name each axis once; in-place use.
    """

    dim: tuple[int, ...] = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        if sorted(self.dim) != list(range(len(x))):
            raise NetError(f"dim must name each of the axes of {x} once, got {self.dim}.")
        return [tuple(x[axis] for axis in self.dim)]

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dim).clone(memory_format=torch.contiguous_format)
