"""Layers that reduce windows of each channel to one value.

ONNX's ceil_mode is not Caffe's rounding: Caffe drops a last window that starts in the padding, and
divides by the window's area inside the padded image. So all windows are laid out here, and the
nodes get explicit padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.table import exports
from moka.layers.pooling import LOWEST, Pooling
from moka.layers.pyramid import SPP
from moka.layers.window import Window
from moka.types import Array, Shape


class Grid(NamedTuple):
    """The windows that a pooling lays over an image.

    Attributes:
        size: of the image along each axis.
        windows: one for each axis.
        out: how many windows lie along each axis.
    """

    size: Shape
    windows: Sequence[Window]
    out: Shape

    @property
    def before(self) -> list[int]:
        """The padding before the image, along each axis."""
        return [w.pad for w in self.windows]

    @property
    def after(self) -> list[int]:
        """The padding behind the image that the last window needs."""
        ends = [(m - 1) * w.stride + w.kernel for w, m in zip(self.windows, self.out, strict=True)]
        needed = zip(ends, self.size, self.windows, strict=True)
        return [max(0, end - n - w.pad) for end, n, w in needed]

    @property
    def needs_padded_image(self) -> bool:
        """Whether a window holds no pixels, or the padding is more than a node can do."""
        axes = zip(self.size, self.windows, self.out, self.after, strict=True)
        return any(
            (m - 1) * w.stride - w.pad >= n or after >= w.kernel or w.pad >= w.kernel
            for n, w, m, after in axes
        )

    @property
    def is_cut(self) -> bool:
        """Whether a window reaches beyond the padded image, so that its area is smaller."""
        return any(after > w.after for after, w in zip(self.after, self.windows, strict=True))

    def attributes(self, *, padded: bool) -> dict[str, list[int]]:
        """Attributes of a pooling node; `padded`: the image has been padded before."""
        pads = [0] * 2 * len(self.windows) if padded else [*self.before, *self.after]
        return {
            "kernel_shape": [w.kernel for w in self.windows],
            "strides": [w.stride for w in self.windows],
            "pads": pads,
        }

    def padded(self, site: Site, x: str, value: float) -> str:
        """The image with all padding in place."""
        return site.pad(x, [0, 0, *self.before], [0, 0, *self.after], value)

    def areas(self, *, include_pad: bool) -> Array:
        """The area of each window inside the padded image, <= 0 if it lies outside; or inside the
        image itself, at least 1."""
        area = np.ones((), np.float32)
        for n, w, m in zip(self.size, self.windows, self.out, strict=True):
            start = np.arange(m) * w.stride - w.pad
            end = np.minimum(start + w.kernel, n + w.after)
            if not include_pad:
                start, end = np.maximum(start, 0), np.minimum(end, n)
            length = end - start if include_pad else np.maximum(end - start, 1)
            area = area[..., None] * length.astype(np.float32)
        return area


@exports(Pooling, fixed_from=1)
def export_pooling(site: Site, layer: Pooling, x: Value) -> str | list[str]:
    if len(x.dims) == 2:
        x = site.reshaped(x, (*x.dims, 1, 1))
    size, out = x.dims[2:], site.tops[0][2:]
    if layer.global_pooling and layer.top_count == 1 and layer.pool != "STOCHASTIC":
        return site.add("GlobalMaxPool" if layer.pool == "MAX" else "GlobalAveragePool", x.name)
    windows = [Window(n) for n in size] if layer.global_pooling else layer.windows
    grid = Grid(size, windows, out)
    if layer.top_count > 1:
        return _max_with_mask(site, x.name, grid)
    include_pad = layer.avg_include_pad
    return pooled(site, x.name, layer.pool, grid, include_pad=include_pad)


def pooled(site: Site, x: str, method: str, grid: Grid, *, include_pad: bool = True) -> str:
    """Pool an image (N, C, spatial...) by MAX, AVE or STOCHASTIC."""
    if method == "MAX":
        return _max(site, x, grid, outputs=1)[0]
    if method == "STOCHASTIC":
        squares = _sums(site, site.add("Mul", x, x), grid)
        sums = site.scaled(_sums(site, x, grid), 1.0, torch.finfo(torch.float32).tiny)
        return site.add("Div", squares, sums)
    return _average(site, x, grid, include_pad=include_pad)


def _max(site: Site, x: str, grid: Grid, *, outputs: int) -> list[str]:
    padded = grid.needs_padded_image
    if padded:
        x = grid.padded(site, x, LOWEST)
    return site.add_several("MaxPool", x, outputs=outputs, **grid.attributes(padded=padded))


def _max_with_mask(site: Site, x: str, grid: Grid) -> list[str]:
    """The maxima, and their row-major indices inside the channel; -1 for a window without
    pixels."""
    y, found = _max(site, x, grid, outputs=2)
    if not grid.needs_padded_image:
        index = site.add("Mod", found, site.ints(prod(grid.size)))
        return [y, site.add("Cast", index, to=FLOAT)]
    sizes = [a + n + b for a, n, b in zip(grid.before, grid.size, grid.after, strict=True)]
    index = inside = ""
    rest, step = found, 1
    for n, before, total in reversed(list(zip(grid.size, grid.before, sizes, strict=True))):
        at = site.add("Sub", site.add("Mod", rest, site.ints(total)), site.ints(before))
        rest = site.add("Div", rest, site.ints(total))
        here = site.add(
            "And",
            site.add("GreaterOrEqual", at, site.ints(0)),
            site.add("Less", at, site.ints(n)),
        )
        inside = site.add("And", inside, here) if inside else here
        moved = site.add("Mul", at, site.ints(step))
        index = site.add("Add", index, moved) if index else moved
        step *= n
    index = site.add("Where", inside, index, site.ints(-1))
    return [y, site.add("Cast", index, to=FLOAT)]


def _sums(site: Site, x: str, grid: Grid) -> str:
    """The sum of each window."""
    padded = grid.needs_padded_image
    if padded:
        x = grid.padded(site, x, 0.0)
    mean = site.add("AveragePool", x, count_include_pad=1, **grid.attributes(padded=padded))
    return site.scaled(mean, prod(w.kernel for w in grid.windows))


def _average(site: Site, x: str, grid: Grid, *, include_pad: bool) -> str:
    no_padding = not any(any(w.sides) for w in grid.windows)
    counts_pixels = no_padding or not include_pad
    if not grid.needs_padded_image and (counts_pixels or not grid.is_cut):
        attributes = grid.attributes(padded=False)
        return site.add("AveragePool", x, count_include_pad=int(not counts_pixels), **attributes)
    sums = _sums(site, x, grid)
    return site.add("Div", sums, site.parts(grid.areas(include_pad=include_pad)))


@exports(SPP, fixed_from=1)
def export_spp(site: Site, layer: SPP, x: Value) -> str:
    size = x.dims[2:]
    levels = zip(layer.levels(size), layer.outs(size), strict=True)
    grids = [Grid(size, windows, out) for windows, out in levels]
    pools = [pooled(site, x.name, layer.pool, grid) for grid in grids]
    if len(pools) == 1:
        return pools[0]
    flat = [
        site.reshape(Value(y, (*x.dims[:2], *grid.out)), (x.dims[0], x.dims[1] * prod(grid.out)))
        for y, grid in zip(pools, grids, strict=True)
    ]
    return site.add("Concat", *flat, axis=1)
