"""Margins of zeros around images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, refuse_in_place
from moka.layers.options import option
from moka.layers.registry import layer
from moka.types import Shape


@layer("Padding", bottoms=1, tops=1, fork="DeepLab v1")
class Padding(Layer):
    """Adds rows and columns of zeros to images, or cuts some off.

    Bottom: (N, C, H, W). Top: (N, C, H + pad_beg + pad_end, W + pad_beg + pad_end): `pad_beg`
    above and to the left, `pad_end` below and to the right; below 0 they cut. Message:
    padding_param. The margins take no gradient.

    Errors: a bottom of other axes; an image of which nothing is left.
    """

    pad_beg: int = option()
    pad_end: int = option()

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        size = tuple(n + self.pad_beg + self.pad_end for n in x[2:])
        least = tuple(n + min(self.pad_beg, 0) + min(self.pad_end, 0) for n in x[2:])
        if min(size) < 1 or min(least) < 0:
            raise NetError(f"pad_beg {self.pad_beg} and pad_end {self.pad_end} leave nothing of"
                           f" images of shape {x}.")  # fmt: skip
        return [(*x[:2], *size)]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.pad_beg, self.pad_end) * 2)


@layer("Pad", bottoms=1, tops=1, bfloat16="keeps", fork="Synopsys Caffe")
class Pad(Layer):
    """Add values of `constant_values` before and behind each axis.

    Bottom: any shape. Top: larger by the two `paddings` of each axis, given axis by axis: that
    before and that behind it. Message: pad_param. The values added take no gradient.

    Errors: not two paddings for each axis; in-place use.

    Synopsys' layer has no gradient; here it is exact.
    """

    paddings: tuple[int, ...] = option()
    constant_values: float = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    @property
    def sides(self) -> list[tuple[int, int]]:
        """The paddings before and behind each axis."""
        return list(zip(self.paddings[::2], self.paddings[1::2], strict=True))

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(self.paddings) != 2 * len(x):
            raise NetError(
                f"paddings must be given twice for each axis of {x}, got {len(self.paddings)}."
            )
        return [tuple(n + before + after for n, (before, after) in zip(x, self.sides, strict=True))]

    def forward(self, x: Tensor) -> Tensor:
        sides = [side for pair in reversed(self.sides) for side in pair]
        return F.pad(x, sides, value=self.constant_values)
