"""Bilinear pooling."""

from __future__ import annotations

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.bilinear import Bilinear, CompactBilinear, MatrixMultiplication


def _channel_products(site: Site, a: Value, b: Value) -> str:
    """(N, C, D), summed over the positions."""
    rows, columns = (site.reshape(x, (*x.dims[:2], x.dims[2] * x.dims[3])) for x in (a, b))
    return site.add("MatMul", rows, site.add("Transpose", columns, perm=[0, 2, 1]))


@exports(Bilinear, fixed_from=1)
def export_bilinear(site: Site, layer: Bilinear, a: Value, b: Value) -> str:
    products = _channel_products(site, a, b)
    return site.reshape(Value(products, (a.dims[0], a.dims[1], b.dims[1])), site.tops[0])


@exports(CompactBilinear, fixed_from=1)
def export_compact_bilinear(site: Site, layer: CompactBilinear, a: Value, b: Value) -> str:
    """The product of each pair of channels, added to where the pair's hashes say."""
    if not layer.sum_pool:
        raise NetError("cannot be exported: with sum_pool: false it has no form in ONNX yet.")
    site.need_opset(16, "ScatterND with a sum")
    index, sign = layer.pairs()
    products = Value(_channel_products(site, a, b), (a.dims[0], a.dims[1], b.dims[1]))
    flat = site.reshape(products, (a.dims[0], len(index)))
    signed = site.add("Mul", flat, site.parts((sign[None] * layer.num_output).numpy()))
    by_pair = site.add("Transpose", signed, perm=[1, 0])
    batch = site.slice(site.add("Shape", signed), 0, 0, 1)
    size = site.add("Concat", site.ints(layer.num_output), batch, axis=0)
    zeros = site.add("Expand", site.number(0), size)
    place = site.constant(index[:, None], "place")
    sums = site.add("ScatterND", zeros, place, by_pair, reduction="add")
    pooled = site.add("Transpose", sums, perm=[1, 0])
    return site.reshape(Value(pooled, (a.dims[0], layer.num_output)), site.tops[0])


@exports(MatrixMultiplication)
def export_matrix_multiplication(
    site: Site, layer: MatrixMultiplication, a: Value, b: Value
) -> str:
    return site.add("MatMul", a.name, b.name)
