"""Maxima over regions, for opsets whose MaxRoiPool nobody runs.

As in the layer four windows whose sides are powers of two cover each bin; the maxima over all such
windows are pooled once.
"""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import Site, Value

Bins = tuple[str, str]  # first and one-past-last cell (R, bins) along an axis


def bin_maxima(site: Site, x: Value, image: str, down: Bins, across: Bins) -> str:
    """The largest value (R, C, h, w) of each bin, 0 in an empty one.

    Args:
        x: features (N, C, H, W).
        image: index (R, 1) of each region's image.
    """
    height, width = x.dims[2:]
    many = width.bit_length()  # windows of different width
    table = _maxima(site, x)
    level_down, tops = _windows(site, *down, height)
    level_across, lefts = _windows(site, *across, width)
    scaled = site.add("Mul", level_down, site.ints(many))
    level = site.add("Add", _as_rows(site, scaled), _as_columns(site, level_across))
    images = site.slice(site.add("Shape", x.name), 0, 0, 1)
    plane = site.add("Add", site.add("Mul", level, images), _as_rows(site, image))
    start = site.add("Mul", plane, site.ints(height * width))
    four = []
    for top in tops:
        line = _as_rows(site, site.add("Mul", top, site.ints(width)))
        for left in lefts:
            place = site.add("Add", line, _as_columns(site, left))
            four.append(site.add("Gather", table, site.add("Add", start, place)))
    best = site.add("Max", *four)
    empty = site.add(
        "Or",
        _as_rows(site, site.add("LessOrEqual", down[1], down[0])),
        _as_columns(site, site.add("LessOrEqual", across[1], across[0])),
    )
    held = site.add("Where", site.add("Unsqueeze", empty, site.ints(3)), site.number(0), best)
    return site.add("Transpose", held, perm=[0, 3, 1, 2])


def _as_rows(site: Site, values: str) -> str:
    """(R, h) as (R, h, 1)."""
    return site.add("Unsqueeze", values, site.ints(2))


def _as_columns(site: Site, values: str) -> str:
    """(R, w) as (R, 1, w)."""
    return site.add("Unsqueeze", values, site.ints(1))


def _maxima(site: Site, x: Value) -> str:
    """A table (windows, C) of the maxima over 2^k x 2^l cells from each cell on, cut at the end."""
    _, channels, height, width = x.dims
    maps = []
    for down in range(height.bit_length()):
        for across in range(width.bit_length()):
            sides = [1 << down, 1 << across]
            behind = [0, 0, *(side - 1 for side in sides)]
            pooled = site.add("MaxPool", x.name, kernel_shape=sides, pads=behind)
            maps.append(site.add("Transpose", pooled, perm=[0, 2, 3, 1]))
    return site.add("Reshape", site.add("Concat", *maps, axis=0), site.ints(-1, channels))


def _windows(site: Site, first: str, end: str, size: int) -> tuple[str, tuple[str, str]]:
    """The level of the windows of each bin along an axis, and where the two of them start."""
    levels = np.array([max(1, n).bit_length() - 1 for n in range(size + 1)])
    length = site.add("Max", site.add("Sub", end, first), site.ints(0))
    level = site.add("Gather", site.constant(levels, "levels"), length)
    side = site.add("Gather", site.constant(1 << levels, "sides"), length)
    low = site.add("Min", first, site.ints(size - 1))
    return level, (low, site.add("Max", site.add("Sub", end, side), site.ints(0)))
