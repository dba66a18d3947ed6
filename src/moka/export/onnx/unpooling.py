"""Layers that enlarge images, as the reverse of pooling."""

from __future__ import annotations

import torch

from moka.export.onnx.builder import INT64, Site, Value
from moka.export.onnx.grid import multiplied, picked
from moka.export.onnx.table import exports
from moka.layers.unpooling import UnPooling, Unpooling, Upsample, spread


@exports(Upsample, fixed_from=1)
def export_upsample(site: Site, layer: Upsample, x: Value, mask: Value | None = None) -> str:
    size = site.tops[0][2:]
    if mask is not None:
        return _put_back(site, x, mask, size)
    rows, columns = (
        (torch.arange(n) / factor).long() for n, factor in zip(size, layer.factors, strict=True)
    )
    y = picked(site, x, rows, columns)
    return site.scaled(y, layer.scale) if layer.form == "stride" else y


def _put_back(site: Site, x: Value, mask: Value, size: tuple[int, ...]) -> str:
    """Each value at its index in images of zeros; one more place takes those with an index < 0.

    Where windows overlapped the order of ScatterElements decides. In ONNX Runtime the last value
    stays, as in the layer.
    """
    area = size[0] * size[1]
    n, channels, height, width = x.dims
    flat = (n, channels, height * width)
    index = site.add("Cast", site.reshape(mask, flat), to=INT64)
    known = site.add("GreaterOrEqual", index, site.ints(0))
    index = site.add("Where", known, index, site.ints(area))
    head = site.slice(site.add("Shape", x.name), 0, 0, 2)
    zeros = site.add("ConstantOfShape", site.add("Concat", head, site.ints(area + 1), axis=0))
    filled = site.add("ScatterElements", zeros, index, site.reshape(x, flat), axis=2)
    images = site.slice(filled, 2, 0, area)
    return site.reshape(Value(images, (n, channels, area)), site.tops[0])


@exports(UnPooling, fixed_from=1)
def export_unpooling(site: Site, layer: UnPooling, x: Value, reference: Value | None = None) -> str:
    windows = layer.windows_for(x.dims, None if reference is None else reference.dims)
    rows, columns = (
        spread(layer.unpool, n, window) for n, window in zip(x.dims[2:], windows, strict=True)
    )
    return multiplied(site, x.name, rows, columns)


@exports(Unpooling, fixed_from=1)
def export_deconvnet_unpooling(
    site: Site, layer: Unpooling, x: Value, mask: Value | None = None
) -> str:
    if mask is not None:
        return _put_back(site, x, mask, site.tops[0][2:])
    if layer.method != "MAX":
        return multiplied(site, x.name, *layer.shares(layer.method, x.dims))
    width, index = layer.size[1], layer.first_pixels(x.dims)
    rows, columns = index[:, 0] // width, index[0] % width
    return multiplied(site, x.name, _last_at(rows, layer.size[0]), _last_at(columns, layer.size[1]))


def _last_at(places: torch.Tensor, out: int) -> torch.Tensor:
    """Weights (out, in) with a 1 at the place of each value; of several for one the last stays."""
    weights = torch.zeros(out, len(places))
    for k, place in enumerate(places.tolist()):
        weights[place] = 0
        weights[place, k] = 1
    return weights
