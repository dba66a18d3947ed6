"""Correlation of two maps: one product for each displacement."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.flow.correlation import Correlating, Correlation, Correlation1D


@exports(Correlation, Correlation1D, fixed_from=1)
def export_correlation(site: Site, layer: Correlating, a: Value, b: Value) -> str:
    pads, places = layer.pads(), layer.places(a.dims)
    starts = [first - layer.kernel_size // 2 for first in places.first]
    sizes = [(n - 1) * places.stride + layer.kernel_size for n in places.counts]
    here = _cut(site, a, [start - pad for start, pad in zip(starts, pads, strict=True)], sizes)
    reach = [[move[k] for move in layer.displacements] for k in (0, 1)]
    low = [start - pad + min(r) for start, pad, r in zip(starts, pads, reach, strict=True)]
    spans = [size + max(r) - min(r) for size, r in zip(sizes, reach, strict=True)]
    around = _cut(site, b, low, spans)
    maps: list[str] = []
    lines: dict[int, str] = {}
    for dy, dx in layer.displacements:
        top, left = dy - min(reach[0]), dx - min(reach[1])
        if dy not in lines:
            lines[dy] = site.slice(around, 2, top, top + sizes[0])
        there = site.slice(lines[dy], 3, left, left + sizes[1])
        if layer.correlation_type == "SUBTRACT":
            each = site.add("Abs", site.add("Sub", here, there))
        else:
            each = site.add("Mul", here, there)
        maps.append(site.reduce("ReduceMean", each, [1], keep=True))
    y = site.add("Concat", *maps, axis=1)
    side, stride = layer.kernel_size, places.stride
    if side * stride == 1:
        return y
    return site.add("AveragePool", y, kernel_shape=[side, side], strides=[stride, stride])


def _cut(site: Site, x: Value, starts: list[int], sizes: list[int]) -> str:
    """A part of maps (N, C, H, W) with 0 beyond their edges: rows and columns from `starts` on."""
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    before = [0, 0, *(-start for start in starts)]
    after = [0, 0, *(end - n for end, n in zip(ends, x.dims[2:], strict=True))]
    return site.pad(x.name, before, after) if any(before + after) else x.name
