"""Layers that multiply by a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from moka.export.onnx.activation import rectified
from moka.export.onnx.builder import INT64, Site, Value
from moka.export.onnx.dims import require_fixed
from moka.export.onnx.table import exports
from moka.layers.binary import BinaryInnerProduct
from moka.layers.linear import Embed, InnerProduct
from moka.layers.shapes import canonical_axis
from moka.layers.surgery import CInnerProduct


@exports(InnerProduct, BinaryInnerProduct, CInnerProduct)
def export_inner_product(site: Site, layer: InnerProduct, x: Value, *given: Value) -> str:
    if given:
        y = _product_of_bottoms(site, layer, x, *given)
    else:
        y = product(site, layer, x, layer.multiplied())
    if layer.relu:
        y = y._replace(name=rectified(site, y.name, layer.negative_slope))
    return site.reshape(y, site.tops[0])


def _product_of_bottoms(
    site: Site, layer: InnerProduct, x: Value, weight: Value, *bias: Value
) -> Value:
    """Rows (M, num_output): x times a weight that is a bottom, as the bias may be."""
    matrix = rows_of(site, x, layer.axis)
    names = [site.reshape(weight, (layer.num_output, layer.inputs))]
    names += [site.reshape(each, (layer.num_output,)) for each in bias] or site.weights()
    y = site.add("Gemm", matrix.name, *names, transB=1)
    return Value(y, (matrix.dims[0], layer.num_output))


def product(site: Site, layer: InnerProduct, x: Value, blobs: Sequence[Tensor]) -> Value:
    """Rows (M, num_output): x times these in place of the layer's parameters."""
    matrix = rows_of(site, x, layer.axis)
    names = [site.changed_weight(k, values) for k, values in enumerate(blobs)]
    y = site.add("Gemm", matrix.name, *names, transB=int(not layer.transpose))
    return Value(y, (matrix.dims[0], layer.num_output))


def rows_of(site: Site, x: Value, axis: int) -> Value:
    """x as a matrix: the axes before `axis` become one, and so do the others."""
    split = canonical_axis(axis, x.dims)
    outer, inner = x.dims[:split], x.dims[split:]
    require_fixed(*inner)
    rows = prod(abs(d) for d in outer) * (-1 if any(d < 0 for d in outer) else 1)
    return site.reshaped(x, (rows, prod(inner)))


@exports(Embed)
def export_embed(site: Site, layer: Embed, x: Value) -> str:
    table, *bias = site.weights()
    y = site.add("Gather", table, site.add("Cast", x.name, to=INT64))
    return site.add("Add", y, *bias) if bias else y
