"""Margins of zeros around images."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.dims import require_fixed
from moka.export.onnx.table import exports
from moka.layers.padding import Pad, Padding


@exports(Padding)
def export_padding(site: Site, layer: Padding, x: Value) -> str:
    before, after = (0, 0, *(layer.pad_beg,) * 2), (0, 0, *(layer.pad_end,) * 2)
    return site.pad(x.name, before, after)


@exports(Pad)
def export_pad(site: Site, layer: Pad, x: Value) -> str:
    before, after = zip(*layer.sides, strict=True)
    if before[0] + after[0]:
        require_fixed(x.dims[0])
    return site.pad(x.name, before, after, layer.constant_values)
