"""YOLO's layers that rearrange or activate a whole map."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import canonical_axis, shape_text
from moka.types import Shape


def reorg(x: Tensor, stride: int) -> Tensor:
    """Darknet's space to depth: x (N, C, H, W) to (N, C s^2, H / s, W / s).

    Darknet reads the memory of an item as (C / s^2, H s, W s), takes every s-th pixel of its rows
    and columns, and lays the result, (C, H, W), out as (C s^2, H / s, W / s).
    """
    n, c, h, w = x.shape
    s = stride
    cut = x.reshape(n, c // (s * s), h, s, w, s).permute(0, 3, 5, 1, 2, 4)
    return _copied(cut).view(n, c * s * s, h // s, w // s)


def undo_reorg(x: Tensor, stride: int) -> Tensor:
    """Darknet's reverse: x (N, C, H, W) to (N, C / s^2, H s, W s).

    Each pixel of channel (a s + b) C / s^2 + c goes to row h s + a, column w s + b of channel c.
    """
    n, c, h, w = x.shape
    s = stride
    cut = x.reshape(n, s, s, c // (s * s), h, w).permute(0, 3, 4, 1, 5, 2)
    return _copied(cut).view(n, c // (s * s), h * s, w * s)


def _copied(x: Tensor) -> Tensor:
    """A row-major copy, even where x is row-major."""
    return x.clone(memory_format=torch.contiguous_format)


class _Reorg(Layer):
    """Base of Reorg and ReorgYolo."""

    stride: int
    reverse: bool = False

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes a bottom N C H W, got shape {shape_text(x)}.")
        n, c, h, w = x
        s = self.stride
        if c % (s * s):
            raise NetError(
                f"the channels must be a multiple of stride * stride = {s * s}, got {c}."
            )
        if self.reverse:
            return [(n, c // (s * s), h * s, w * s)]
        if h % s or w % s:
            raise NetError(f"height and width must be multiples of stride {s}, got {h} x {w}.")
        return [(n, c * s * s, h // s, w // s)]

    def forward(self, x: Tensor) -> Tensor:
        return undo_reorg(x, self.stride) if self.reverse else reorg(x, self.stride)


@layer("Reorg", bottoms=1, tops=1, fork="YOLO on Caffe", bfloat16="keeps")
class Reorg(_Reorg):
    """Space to depth in darknet's order, for YOLOv2's shortcut.

    With s = stride the memory of an item is read as (C / s^2, H s, W s); its pixels at every s-th
    row and column, first those at (0, 0), then (0, 1) and so on, make (C, H, W), whose memory is
    the top's. That is not the order of torch's pixel_unshuffle. reverse: depth to space, the
    channel (a s + b) C / s^2 + c holds the pixels of channel c at rows a and columns b.

    Bottom: (N, C, H, W). Top: (N, C s^2, H / s, W / s), or with reverse (N, C / s^2, H s, W s).
    Message: reorg_param. Redmon and Farhadi, 2016 (YOLO9000).

    Errors: no stride; C is no multiple of s^2, or H or W none of s.
    """

    stride: int = option(positive, required=True)
    reverse: bool = option()


@layer("ReorgYolo", bottoms=1, tops=1, fork="OpenVINO", bfloat16="keeps")
class ReorgYolo(_Reorg):
    """Space to depth in darknet's order: Reorg in OpenVINO's words, without reverse.

    Bottom: (N, C, H, W). Top: (N, C s^2, H / s, W / s), s = stride (1 if it is not given).
    Message: reorg_yolo_param. Errors: as Reorg.
    """

    stride: int = option(positive)


@layer("RegionYolo", bottoms=1, tops=1, fork="OpenVINO")
class RegionYolo(Layer):
    """The activations of YOLO's last map: sigmoid of x, y and objectness; classes by a softmax, or
    by sigmoids without do_softmax (YOLOv3).

    Bottom: (N, A (coords + 1 + classes), H, W): for each anchor its coords, objectness, classes;
    A is num, or without do_softmax the number of values in `mask` (num if there are none). Top: the
    same values in the same order; with do_softmax the axes from flatten_param's axis (default 1) to
    its end_axis (default the last) become one. Messages: region_yolo_param, flatten_param;
    `anchors` change nothing here. Redmon and Farhadi, 2016 and 2018.

    Errors: another number of channels; coords below 2.
    """

    coords: int = option()
    classes: int = option(positive)
    num: int = option(positive)
    do_softmax: bool = option()
    anchors: tuple[float, ...] = option()
    mask: tuple[int, ...] = option(not_negative)
    axis: int = option(of="flatten_param")
    end_axis: int = option(of="flatten_param")

    def setup(self, x: Shape) -> None:
        if self.coords < 2:
            raise NetError(f"coords must be >= 2, got {self.coords}.")
        self.count = self.num if self.do_softmax or not self.mask else len(self.mask)

    def top_shapes(self, x: Shape) -> list[Shape]:
        wanted = self.count * (self.coords + 1 + self.classes)
        if len(x) != 4 or x[1] != wanted:
            raise NetError(
                f"{self.count} anchors of {self.coords} coords, 1 objectness and {self.classes}"
                f" classes need {wanted} channels, got shape {shape_text(x)}."
            )
        if not self.do_softmax:
            return [x]
        first, last = canonical_axis(self.axis, x), canonical_axis(self.end_axis, x)
        if first > last:
            raise NetError(f"flatten_param: axis {self.axis} lies behind end_axis {self.end_axis}.")
        return [(*x[:first], prod(x[first : last + 1]), *x[last + 1 :])]

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        parts = x.reshape(n, self.count, self.coords + 1 + self.classes, h, w)
        center, size, objectness, classes = torch.split(
            parts, [2, self.coords - 2, 1, self.classes], 2
        )
        active = classes.softmax(2) if self.do_softmax else classes.sigmoid()
        y = torch.cat([center.sigmoid(), size, objectness.sigmoid(), active], 2)
        return y.reshape(self.top_shapes(tuple(x.shape))[0])
