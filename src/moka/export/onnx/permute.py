"""Layers that put axes in another order."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.permute import Permute


@exports(Permute)
def export_permute(site: Site, layer: Permute, x: Value) -> str:
    rest = (axis for axis in range(len(x.dims)) if axis not in layer.order)
    return site.add("Transpose", x.name, perm=[*layer.order, *rest])
