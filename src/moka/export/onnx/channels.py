"""Layers that weight the channels or the positions of an image."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.channels import Axpy


@exports(Axpy)
def export_axpy(site: Site, layer: Axpy, a: Value, x: Value, y: Value) -> str:
    factor = site.reshape(a, (*x.dims[:2], *(1,) * (len(x.dims) - 2)))
    return site.add("Add", site.add("Mul", x.name, factor), y.name)
