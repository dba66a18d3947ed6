"""Layers that put the values of a blob into another order."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, refuse_in_place
from moka.layers.late_checks import in_range
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


@layer(
    "ReverseTime", bottoms=2, tops=1, bfloat16="keeps", fixed_bottoms=(1,), fork="ChWick's Caffe"
)
class ReverseTime(Layer):
    """Reverse the order in time of sequences of different lengths: of one with L steps, step t is
    step L - 1 - t of the bottom.

    Bottoms: x (T, N, ...); the lengths (N,), whole numbers from 0 to T (no gradient). Top: the
    shape of x; steps from L on are those of the bottom with `copy_remaining`, else 0. Message:
    reverse_time_param.

    Errors: not one length for each sequence; a length above T; in-place use.

    Without copy_remaining the fork leaves steps from L on as they lie in memory.
    """

    copy_remaining: bool = option()

    def setup(self, x: Shape, lengths: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape, lengths: Shape) -> list[Shape]:
        require_axes(2, x)
        if lengths != (x[1],):
            raise NetError(
                f"needs one length for each of the {x[1]} sequences, got a blob of shape {lengths}."
            )
        return [x]

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        steps = len(x)
        length = in_range(
            lengths.long(),
            steps + 1,
            fault=f"a length of {{}} lies outside of 0 to {steps}, the steps of the bottom",
            advice="Check the second bottom, the lengths of the sequences.",
        )
        time = torch.arange(steps, device=x.device)[:, None]
        inside = time < length
        order = torch.where(inside, length - 1 - time, time)
        shape = (*order.shape, *(1,) * (x.dim() - 2))
        y = x.gather(0, order.view(shape).expand_as(x))
        return y if self.copy_remaining else y.where(inside.view(shape), 0)


@layer("GSTiling", bottoms=1, tops=1, bfloat16="keeps", fork="Vitis-AI")
class GSTiling(Layer):
    """Space to depth: the pixels at every s-th row and column become channels.

    With s = stride, channel (a s + b) C + c of the top holds the pixels of channel c at rows i s +
    a and columns j s + b. `reverse`: depth to space, the way back.

    Bottom: (N, C, H, W). Top: (N, C s^2, H / s, W / s), or with reverse (N, C / s^2, H s, W s).
    Message: gs_tiling_param.

    Errors: no stride; H or W is no multiple of s, or with reverse C none of s^2; a bottom that is
    not 4-D; in-place use.
    """

    stride: int = option(positive, required=True)
    reverse: bool = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        (n, c, h, w), s = x, self.stride
        if self.reverse:
            if c % (s * s):
                raise NetError(f"channels must be a multiple of {s * s}, stride^2, got {c}.")
            return [(n, c // (s * s), h * s, w * s)]
        if h % s or w % s:
            raise NetError(f"height and width must be multiples of stride {s}, got {h} x {w}.")
        return [(n, c * s * s, h // s, w // s)]

    def forward(self, x: Tensor) -> Tensor:
        (n, c, h, w), s = x.shape, self.stride
        if self.reverse:
            moved = x.reshape(n, s, s, c // (s * s), h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            moved = x.reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
        return moved.reshape(self.top_shapes(tuple(x.shape))[0]).contiguous()


@layer("Tiling", bottoms=1, tops=1, bfloat16="keeps", fork="tianchenwang's Caffe")
class Tiling(Layer):
    """Depth to space: with t = tile_dim, t^2 channels become a square of t x t pixels, row by row.

    Channel c of the top holds at row i t + a and column j t + b what channel c t^2 + a t + b of the
    bottom holds at (i, j).

    Bottom: (N, C, H, W). Top: (N, C / t^2, H t, W t). Message: tiling_param. Huval et al., 2015;
    Lee et al., 2017 (VPGNet).

    Errors: no tile_dim; C is no multiple of t^2; a bottom that is not 4-D; in-place use.
    """

    tile_dim: int = option(positive, required=True)

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        (n, c, h, w), t = x, self.tile_dim
        if c % (t * t):
            raise NetError(f"channels must be a multiple of {t * t}, tile_dim^2, got {c}.")
        return [(n, c // (t * t), h * t, w * t)]

    def forward(self, x: Tensor) -> Tensor:
        (n, c, h, w), t = x.shape, self.tile_dim
        moved = x.reshape(n, c // (t * t), t, t, h, w).permute(0, 1, 4, 2, 5, 3)
        return moved.reshape(n, c // (t * t), h * t, w * t).contiguous()
