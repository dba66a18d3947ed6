"""Layers that multiply by a matrix."""

from __future__ import annotations

from math import prod

from moka.export.onnx.builder import INT64, Site, Value
from moka.export.onnx.table import exports
from moka.layers.linear import Embed, InnerProduct
from moka.layers.shapes import canonical_axis


@exports(InnerProduct)
def export_inner_product(site: Site, layer: InnerProduct, x: Value) -> str:
    split = canonical_axis(layer.axis, x.dims)
    outer = x.dims[:split]
    rows = prod(abs(d) for d in outer) * (-1 if any(d < 0 for d in outer) else 1)
    matrix = site.reshape(x, (rows, layer.inputs))
    y = site.add("Gemm", matrix, *site.weights(), transB=int(not layer.transpose))
    return site.reshape(Value(y, (rows, layer.num_output)), site.tops[0])


@exports(Embed)
def export_embed(site: Site, layer: Embed, x: Value) -> str:
    table, *bias = site.weights()
    y = site.add("Gather", table, site.add("Cast", x.name, to=INT64))
    return site.add("Add", y, *bias) if bias else y
