"""Correlation of two maps of features over displacements."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.types import Shape


class Places(NamedTuple):
    """Where windows lie in the padded maps: the center of the first one in y and x, how many there
    are in y and x, and their distance."""

    first: tuple[int, int]
    counts: tuple[int, int]
    stride: int


def correlation(
    a: Tensor,
    b: Tensor,
    displacements: list[tuple[int, int]],
    places: Places,
    kernel: int,
    *,
    subtract: bool = False,
) -> Tensor:
    """Mean, over the channels and a window, of a times b, b displaced.

    Args:
        a, b: padded maps (N, C, H, W).
        displacements: (dy, dx); beyond the maps b is 0.
        places: of the windows.
        kernel: side of a window; odd.
        subtract: take |a - b| in place of a * b.

    Returns:
        (N, displacements, *places.counts).
    """
    radius = kernel // 2
    sizes = [(n - 1) * places.stride + kernel for n in places.counts]
    top, left = (first - radius for first in places.first)
    here = a[:, :, top : top + sizes[0], left : left + sizes[1]]
    low = (
        min(0, top + min(dy for dy, _ in displacements)),
        min(0, left + min(dx for _, dx in displacements)),
    )
    high = (
        max(0, top + sizes[0] + max(dy for dy, _ in displacements) - b.shape[2]),
        max(0, left + sizes[1] + max(dx for _, dx in displacements) - b.shape[3]),
    )
    b = F.pad(b, (-low[1], high[1], -low[0], high[0]))
    maps = []
    for dy, dx in displacements:
        y, x = top + dy - low[0], left + dx - low[1]
        there = b[:, :, y : y + sizes[0], x : x + sizes[1]]
        product = (here - there).abs() if subtract else here * there
        maps.append(product.mean(1))
    out = torch.stack(maps, 1)
    stride = min(places.stride, max(sizes))  # pooling takes no longer one
    return F.avg_pool2d(out, kernel, stride) if kernel * stride > 1 else out


MOST_STEPS = 10**5


class Correlating(Layer):
    """Base of both layers of correlation."""

    pad: int = option()
    kernel_size: int = option(positive, required=True)
    max_displacement: int = option(required=True)
    stride_1: int = option(positive)
    stride_2: int = option(positive)
    do_abs: bool = option()
    single_direction: int = option()
    correlation_type: str = option()

    def setup(self, a: Shape, b: Shape) -> None:
        if self.kernel_size % 2 == 0:
            raise NetError(f"kernel_size must be odd, got {self.kernel_size}.")
        self.radius = self.max_displacement // self.stride_2  # in steps
        self.displacements = list(islice(self.steps(), MOST_STEPS + 1))
        if len(self.displacements) > MOST_STEPS:
            raise NetError(
                f"max_displacement {self.max_displacement} makes more than {MOST_STEPS}"
                " displacements, each a channel of the top."
            )

    def steps(self) -> Iterator[tuple[int, int]]:
        """The displacements (dy, dx)."""
        raise NotImplementedError

    def margins(self) -> tuple[int, int]:
        """Pixels from the padded map's edge to the first window's center, in y and x."""
        raise NotImplementedError

    def pads(self) -> tuple[int, int]:
        """Zeros on each side in y and x."""
        raise NotImplementedError

    def places(self, shape: Shape) -> Places:
        sizes = [n + 2 * pad for n, pad in zip(shape[2:], self.pads(), strict=True)]
        margins = self.margins()
        count = tuple(
            -(-(n - 2 * margin) // self.stride_1) for n, margin in zip(sizes, margins, strict=True)
        )
        return Places(margins, (count[0], count[1]), self.stride_1)

    def top_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        if a != b or len(a) != 4:
            raise NetError(f"takes two bottoms of one shape (N, C, H, W), got {a} and {b}.")
        refuse_empty_axes(a, first=1)
        counts = self.places(a).counts
        if min(counts) < 1:
            raise NetError(
                f"the maps {a[2:]} are too small for these displacements: no window fits."
                " Raise pad or lower max_displacement."
            )
        return [(a[0], len(self.displacements), *counts)]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        y, x = self.pads()
        places = self.places(tuple(a.shape))
        return correlation(
            F.pad(a, (x, x, y, y)),
            F.pad(b, (x, x, y, y)),
            self.displacements,
            places,
            self.kernel_size,
            subtract=self.correlation_type == "SUBTRACT",
        )


@layer("Correlation", bottoms=2, tops=1, fork="FlowNet2")
class Correlation(Correlating):
    """How well each window of one map fits the other map, displaced.

    y[d] = mean over the channels and a window of kernel_size x kernel_size of a * b, b displaced
    by d; with `correlation_type: SUBTRACT` of |a - b|. The displacements go from -max_displacement
    to it, in y and x, in steps of stride_2; x runs fastest.

    Bottoms: two maps (N, C, H, W), which get `pad` zeros on each side. Top: (N, D, H', W') with
    D = (2 floor(max_displacement / stride_2) + 1)^2 and sizes
    ceil((in + 2 pad - 2 (max_displacement + (kernel_size - 1) / 2)) / stride_1).
    Message: correlation_param; `do_abs` and `single_direction` have no effect, as in the fork.
    Dosovitskiy et al., 2015 (FlowNet).

    Errors: an even kernel_size; bottoms of different shapes; maps that are too small.
    """

    def steps(self) -> Iterator[tuple[int, int]]:
        reach = range(-self.radius, self.radius + 1)
        return ((dy * self.stride_2, dx * self.stride_2) for dy in reach for dx in reach)

    def margins(self) -> tuple[int, int]:
        margin = self.max_displacement + self.kernel_size // 2
        return margin, margin

    def pads(self) -> tuple[int, int]:
        return self.pad, self.pad


@layer("Correlation1D", bottoms=2, tops=1, message="correlation_param", fork="FlowNet2")
class Correlation1D(Correlating):
    """A Correlation whose displacements are horizontal, for images side by side.

    With r = floor(max_displacement / stride_2) the displacements are stride_2 times -r to r;
    `single_direction: 1`: 0 to r; `single_direction: -1`: -(r + 1) to -1.

    Bottoms: two maps (N, C, H, W), which get `pad` zeros on the left and on the right. Top:
    (N, D, H', W') with D displacements, H' = ceil((H - (kernel_size - 1)) / stride_1) and W' as in
    Correlation. The rest: see Correlation. Mayer et al., 2016 (DispNet).

    Errors: those of Correlation; a single_direction other than -1, 0 and 1.
    """

    def steps(self) -> Iterator[tuple[int, int]]:
        first_and_end = {
            -1: (-self.radius - 1, 0),
            0: (-self.radius, self.radius + 1),
            1: (0, self.radius + 1),
        }
        if self.single_direction not in first_and_end:
            raise NetError(f"single_direction must be -1, 0 or 1, got {self.single_direction}.")
        return ((0, dx * self.stride_2) for dx in range(*first_and_end[self.single_direction]))

    def margins(self) -> tuple[int, int]:
        radius = self.kernel_size // 2
        return radius, self.max_displacement + radius

    def pads(self) -> tuple[int, int]:
        return 0, self.pad
