"""Layers that copy, join, cut and reshape blobs without computing new values."""

from __future__ import annotations

from moka.export.onnx.builder import INT64, Site, Value
from moka.export.onnx.dims import require_fixed
from moka.export.onnx.table import exports
from moka.layers.shape import (
    AutoCrop,
    BatchReindex,
    Concat,
    Crop,
    Debug,
    Filter,
    Flatten,
    Reshape,
    Silence,
    Slice,
    Split,
    Squeeze,
    Tile,
)
from moka.layers.shapes import canonical_axis


@exports(Debug)
def export_debug(site: Site, layer: Debug, x: Value, *others: Value) -> str:
    return x.name


@exports(Split)
def export_split(site: Site, layer: Split, x: Value) -> list[str]:
    return [x.name] * len(site.tops)


@exports(Concat)
def export_concat(site: Site, layer: Concat, *bottoms: Value) -> str:
    if len(bottoms) == 1:
        return bottoms[0].name
    axis = canonical_axis(layer.join, bottoms[0].dims)
    return site.add("Concat", *(x.name for x in bottoms), axis=axis)


@exports(Flatten, Reshape)
def export_reshape(site: Site, layer: Flatten | Reshape, x: Value) -> str:
    return site.reshape(x, site.tops[0])


@exports(Squeeze)
def export_squeeze(site: Site, layer: Squeeze, x: Value) -> str:
    """Whether an axis goes depends on its size, so that size must be known."""
    axes = {canonical_axis(axis, x.dims) for axis in layer.axis} or range(len(x.dims))
    require_fixed(*(x.dims[axis] for axis in axes))
    return site.reshape(x, site.tops[0])


@exports(Silence)
def export_silence(site: Site, layer: Silence, *bottoms: Value) -> list[str]:
    return []


@exports(Slice)
def export_slice(site: Site, layer: Slice, x: Value) -> list[str]:
    if len(site.tops) == 1:
        return [x.name]
    axis = canonical_axis(layer.cut, x.dims)
    sizes = [top[axis] for top in site.tops]
    require_fixed(*sizes)
    return site.add_several("Split", x.name, site.ints(*sizes), outputs=len(sizes), axis=axis)


@exports(Tile)
def export_tile(site: Site, layer: Tile, x: Value) -> str:
    repeats = [1] * len(x.dims)
    repeats[canonical_axis(layer.axis, x.dims)] = layer.tiles
    return site.add("Tile", x.name, site.ints(*repeats))


@exports(Crop, AutoCrop)
def export_crop(site: Site, layer: Crop, x: Value, reference: Value) -> str:
    first = canonical_axis(layer.axis, x.dims)
    axes = [a for a in range(first, len(x.dims)) if x.dims[a] != reference.dims[a]]
    sizes = [reference.dims[a] for a in axes]
    if not axes:
        return x.name
    require_fixed(*sizes, *(x.dims[a] for a in axes))
    offsets = layer.offsets(x.dims, reference.dims)
    starts = [offsets[a] for a in axes]
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return site.add("Slice", x.name, site.ints(*starts), site.ints(*ends), site.ints(*axes))


@exports(BatchReindex)
def export_batch_reindex(site: Site, layer: BatchReindex, x: Value, index: Value) -> str:
    return site.add("Gather", x.name, site.add("Cast", index.name, to=INT64), axis=0)


@exports(Filter)
def export_filter(site: Site, layer: Filter, *bottoms: Value) -> list[str]:
    *blobs, selector = bottoms
    flat = site.add("Reshape", selector.name, site.ints(-1))
    zero = site.add("Equal", flat, site.number(0))
    kept = site.add("Not", zero)
    return [site.add("Compress", blob.name, kept, axis=0) for blob in blobs]
