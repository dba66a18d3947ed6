"""Layers that bring images to another size by interpolation."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.grid import aligned, multiplied, picked
from moka.export.onnx.table import exports
from moka.layers.grid import centered_weights
from moka.layers.resize import (
    Accum,
    DeephiResize,
    Downsample,
    Interp,
    Resample,
    ResizeBilinear,
    ResizeNearestNeighbor,
    pixels_before,
    shrinking,
)


@exports(Interp, fixed_from=1)
def export_interp(site: Site, layer: Interp, x: Value, reference: Value | None = None) -> str:
    y = x.name
    for axis in (2, 3):
        if layer.pad_beg or layer.pad_end:
            y = site.slice(y, axis, -layer.pad_beg, x.dims[axis] + layer.pad_end)
    return aligned(site, y, *site.tops[0][2:])


@exports(Accum, fixed_from=1)
def export_accum(site: Site, layer: Accum, *bottoms: Value) -> str:
    size = site.tops[0][2:]
    joined = bottoms[:-1] if layer.have_reference else bottoms
    parts = [x.name if x.dims[2:] == size else aligned(site, x.name, *size) for x in joined]
    return site.add("Concat", *parts, axis=1)


@exports(Resample, fixed_from=1)
def export_resample(site: Site, layer: Resample, x: Value, reference: Value | None = None) -> str:
    """Pixels that are picked, or products with the weights of rows and of columns."""
    rows, columns = layer.maps(x.dims[2:], site.tops[0][2:])
    if layer.type == "NEAREST":
        return picked(site, x, rows, columns)
    return multiplied(site, x.name, rows, columns)


@exports(DeephiResize, fixed_from=1)
def export_deephi_resize(site: Site, layer: DeephiResize, x: Value) -> str:
    axes = list(zip(x.dims[2:], site.tops[0][2:], strict=True))
    if layer.resize_type == "NEAREST":
        return picked(site, x, *(pixels_before(n, m) for n, m in axes))
    weights = (centered_weights(n, m, "LINEAR", antialias=False) for n, m in axes)
    return multiplied(site, x.name, *weights)


@exports(Downsample, fixed_from=1)
def export_downsample(
    site: Site, layer: Downsample, x: Value, reference: Value | None = None
) -> str:
    """The weighted sum of the known values over the weight that they have."""
    if x.dims == site.tops[0]:
        return x.name
    weights = [shrinking(n, m) for n, m in zip(x.dims[2:], site.tops[0][2:], strict=True)]
    zero, one, nan = site.number(0), site.number(1), site.number(float("nan"))
    unknown = site.add("IsNaN", x.name)
    total = multiplied(site, site.add("Where", unknown, zero, x.name), *weights)
    weight = multiplied(site, site.add("Where", unknown, zero, one), *weights)
    lost = multiplied(site, site.add("Where", unknown, one, zero), *weights)
    too_little = site.add("Greater", lost, site.scaled(weight, 0.5))
    return site.add("Where", too_little, nan, site.add("Div", total, weight))


@exports(ResizeBilinear, fixed_from=1)
def export_resize_bilinear(site: Site, layer: ResizeBilinear, x: Value) -> str:
    maps = layer.maps(x.dims)
    if layer.data_format == "NCHW":
        return multiplied(site, x.name, *maps)
    images = site.add("Transpose", x.name, perm=[0, 3, 1, 2])
    return site.add("Transpose", multiplied(site, images, *maps), perm=[0, 2, 3, 1])


@exports(ResizeNearestNeighbor, fixed_from=1)
def export_resize_nearest(site: Site, layer: ResizeNearestNeighbor, x: Value) -> str:
    maps = layer.maps(x.dims)
    if layer.data_format == "NCHW":
        return picked(site, x, *maps)
    y = x.name
    for axis, index in enumerate(maps, layer.first_axis):
        y = site.add("Gather", y, site.ints(*index.tolist()), axis=axis)
    return y
