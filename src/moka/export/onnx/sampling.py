"""Layers that sample images at places between pixels, and the sampling itself.

The four pixels around each place are picked by their indices, as the layers do it. The operator
GridSample counts places from -1 to 1, which loses digits in large images.
"""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import FLOAT, INT64, Site, Value
from moka.export.onnx.table import exports
from moka.layers.sampling import THETA, SpatialTransformer


def bilinear(
    site: Site, x: Value, rows: str, columns: str, out: tuple[int, int], *, repeat_edge: bool
) -> str:
    """Values of images x (N, C, H, W) at places (N, h, w), as `moka.layers.sampling.bilinear` has
    them. Returns (N, C, h, w).

    Args:
        out: (h, w).
        repeat_edge: beyond the last row and column the image goes on with them; False: outside of
            the image everything is 0.
    """
    images, channels, height, width = x.dims
    cells = site.add("Transpose", x.name, perm=[0, 2, 3, 1])
    cells_dims = (images, height, width, channels)
    cells = site.reshape(Value(cells, cells_dims), (images, height * width, channels))
    total = ""
    for row, row_share in _neighbors(site, rows, height, repeat_edge=repeat_edge):
        line = site.add("Mul", row, site.ints(width))
        for column, column_share in _neighbors(site, columns, width, repeat_edge=repeat_edge):
            index = site.add("Unsqueeze", site.add("Add", line, column), site.ints(3))
            flat = site.reshape(Value(index, (images, *out, 1)), (images, out[0] * out[1], 1))
            values = site.add("GatherND", cells, flat, batch_dims=1)
            grid = Value(values, (images, out[0] * out[1], channels))
            placed = site.reshape(grid, (images, *out, channels))
            share = site.add("Unsqueeze", site.add("Mul", row_share, column_share), site.ints(3))
            part = site.add("Mul", placed, share)
            total = site.add("Add", total, part) if total else part
    return site.add("Transpose", total, perm=[0, 3, 1, 2])


def _neighbors(site: Site, at: str, size: int, *, repeat_edge: bool) -> list[tuple[str, str]]:
    """The pixels before and after each place along an axis, and their shares."""
    before = site.add("Floor", at)
    second = site.add("Sub", at, before)
    first = site.add("Sub", site.number(1), second)
    found = []
    for pixel, share in ((before, first), (site.scaled(before, 1.0, 1.0), second)):
        held = site.add("Min", site.add("Max", pixel, site.number(0)), site.number(size - 1))
        if not repeat_edge:
            inside = site.add("Cast", site.add("Equal", held, pixel), to=FLOAT)
            share = site.add("Mul", share, inside)
        found.append((site.add("Cast", held, to=INT64), share))
    return found


@exports(SpatialTransformer, fixed_from=1)
def export_spatial_transformer(
    site: Site, layer: SpatialTransformer, x: Value, theta: Value
) -> str:
    out_height, out_width = site.tops[0][2:]
    rows, columns = (
        site.parts(np.arange(n, dtype=np.float32).reshape(shape) / n * 2 - 1)
        for n, shape in ((out_height, (-1, 1)), (out_width, (1, -1)))
    )
    entries = _entries(site, layer, theta)
    images = site.slice(site.add("Shape", x.name), 0, 0, 1)
    zeros = site.add("ConstantOfShape", site.add("Concat", images, site.ints(1, 1), axis=0))
    places = []
    for size, (a, b, c) in zip(x.dims[2:], (entries[:3], entries[3:]), strict=True):
        moved = site.add("Add", site.add("Mul", a, rows), site.add("Mul", b, columns))
        moved = site.add("Add", site.add("Add", moved, c), zeros)  # one map for each image
        places.append(site.scaled(site.scaled(moved, 1.0, 1.0), size / 2))
    down, across = places
    return bilinear(site, x, down, across, (out_height, out_width), repeat_edge=False)


def _entries(site: Site, layer: SpatialTransformer, theta: Value) -> list[str]:
    """The six entries of the map's matrix, (N, 1, 1) each, or ()."""
    given = [getattr(layer, name) for name in THETA]
    free = given.count(None)
    columns = site.reshape(theta, (theta.dims[0], free, 1, 1))
    parts = iter(
        site.add_several("Split", columns, site.ints(*[1] * free), outputs=free, axis=1)
        if free
        else ()
    )
    return [
        site.add("Squeeze", next(parts), site.ints(1)) if value is None else site.number(value)
        for value in given
    ]
