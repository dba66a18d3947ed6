"""Images (N, C, H, W) brought from one grid of pixels to another, rows and columns apart."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.export.onnx.builder import Site, Value


def picked(site: Site, x: Value, rows: Tensor, columns: Tensor) -> str:
    """The pixels x[rows[i], columns[j]]; rows (H',), columns (W',).

    Where that repeats all pixels equally often it is a Resize, many times faster than a Gather.
    """
    indices = (rows, columns)
    factors = [_repeats(index, n) for index, n in zip(indices, x.dims[2:], strict=True)]
    if all(factors):
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        scales = site.parts([1.0, 1.0, *map(float, factors)])
        return site.add("Resize", x.name, "", scales, mode="nearest", **how)
    y = x.name
    for axis, index in enumerate(indices, 2):
        y = site.add("Gather", y, site.ints(*index.tolist()), axis=axis)
    return y


def _repeats(index: Tensor, size: int) -> int:
    """How often the index (out,) names each of so many pixels one after another; 0: not so."""
    times = len(index) // size
    alike = torch.arange(size).repeat_interleave(times)
    return times if torch.equal(index, alike) else 0


def multiplied(site: Site, x: str, rows: Tensor, columns: Tensor) -> str:
    """Sums of all pixels, weighted: rows (H', H) times x times the transpose of columns (W', W)."""
    down = site.add("MatMul", site.constant(rows.float(), "rows"), x)
    across = columns.float().t().contiguous()
    return site.add("MatMul", down, site.constant(across, "columns"))


def aligned(site: Site, x: str, height: int, width: int) -> str:
    """Bilinear interpolation that keeps the corner pixels in place."""
    head = site.slice(site.add("Shape", x), 0, 0, 2)
    sizes = site.add("Concat", head, site.ints(height, width), axis=0)
    how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return site.add("Resize", x, "", "", sizes, **how)
