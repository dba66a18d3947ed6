"""Layers that multiply by a matrix."""

from __future__ import annotations

from math import prod

import torch

from moka.export.onnx.activation import rectified
from moka.export.onnx.builder import INT64, Site, Value
from moka.export.onnx.table import exports
from moka.layers.linear import NORM_EPS, Embed, InnerProduct
from moka.layers.shapes import canonical_axis


@exports(InnerProduct)
def export_inner_product(site: Site, layer: InnerProduct, x: Value) -> str:
    split = canonical_axis(layer.axis, x.dims)
    outer = x.dims[:split]
    rows = prod(abs(d) for d in outer) * (-1 if any(d < 0 for d in outer) else 1)
    matrix = site.reshape(x, (rows, layer.inputs))
    weight, *bias = site.weights()
    if layer.normalize:
        values = layer.blobs[0].detach()
        squares = values.square().sum(0 if layer.transpose else 1, keepdim=True)
        weight = site.changed_weight(0, values * torch.rsqrt(squares + NORM_EPS))
    y = site.add("Gemm", matrix, weight, *bias, transB=int(not layer.transpose))
    if layer.relu:
        y = rectified(site, y, layer.negative_slope)
    return site.reshape(Value(y, (rows, layer.num_output)), site.tops[0])


@exports(Embed)
def export_embed(site: Site, layer: Embed, x: Value) -> str:
    table, *bias = site.weights()
    y = site.add("Gather", table, site.add("Cast", x.name, to=INT64))
    return site.add("Add", y, *bias) if bias else y
