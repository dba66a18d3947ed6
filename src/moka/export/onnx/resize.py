"""Layers that bring images to another size by interpolation."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.grid import centered_weights, nearest_pixels
from moka.layers.resize import Interp, Resample


@exports(Interp)
def export_interp(site: Site, layer: Interp, x: Value, reference: Value | None = None) -> str:
    y = x.name
    for axis in (2, 3):
        if layer.pad_beg or layer.pad_end:
            y = site.slice(y, axis, -layer.pad_beg, x.dims[axis] + layer.pad_end)
    head = site.slice(site.add("Shape", y), 0, 0, 2)
    sizes = site.add("Concat", head, site.ints(*site.tops[0][2:]), axis=0)
    how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return site.add("Resize", y, "", "", sizes, **how)


@exports(Resample)
def export_resample(site: Site, layer: Resample, x: Value, reference: Value | None = None) -> str:
    """Pixels that are picked, or products with the weights of rows and of columns."""
    axes = list(zip(x.dims[2:], site.tops[0][2:], strict=True))
    if layer.type == "NEAREST":
        down, across = (site.ints(*nearest_pixels(n, m).tolist()) for n, m in axes)
        return site.add("Gather", site.add("Gather", x.name, down, axis=2), across, axis=3)
    antialias = layer.antialias and any(n > m for n, m in axes)
    rows, columns = (
        centered_weights(n, m, layer.type, antialias=antialias).float() for n, m in axes
    )
    down = site.add("MatMul", site.constant(rows, "rows"), x.name)
    return site.add("MatMul", down, site.constant(columns.t().contiguous(), "columns"))
