"""Images (N, C, H, W) brought from one grid of pixels to another, rows and columns apart."""

from __future__ import annotations

from torch import Tensor

from moka.export.onnx.builder import Site


def picked(site: Site, x: str, rows: Tensor, columns: Tensor) -> str:
    """The pixels x[rows[i], columns[j]]; rows (H',), columns (W',)."""
    for axis, index in ((2, rows), (3, columns)):
        x = site.add("Gather", x, site.ints(*index.tolist()), axis=axis)
    return x


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
