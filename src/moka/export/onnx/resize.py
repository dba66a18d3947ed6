"""Layers that bring images to another size by interpolation."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.grid import aligned, multiplied, picked
from moka.export.onnx.table import exports
from moka.layers.grid import centered_weights, nearest_pixels
from moka.layers.resize import (
    Accum,
    DeephiResize,
    Downsample,
    Interp,
    Resample,
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
    axes = list(zip(x.dims[2:], site.tops[0][2:], strict=True))
    if layer.type == "NEAREST":
        return picked(site, x, *(nearest_pixels(n, m) for n, m in axes))
    antialias = layer.antialias and any(n > m for n, m in axes)
    weights = (centered_weights(n, m, layer.type, antialias=antialias) for n, m in axes)
    return multiplied(site, x.name, *weights)


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
