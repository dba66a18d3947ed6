"""Margins of zeros around images."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.padding import Padding


@exports(Padding)
def export_padding(site: Site, layer: Padding, x: Value) -> str:
    before, after = (0, 0, *(layer.pad_beg,) * 2), (0, 0, *(layer.pad_end,) * 2)
    return site.pad(x.name, before, after)
