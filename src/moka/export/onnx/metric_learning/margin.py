"""Scores of classes by angle; that of the true class with a margin."""

from __future__ import annotations

from functools import reduce
from math import cos, pi

import torch

from moka.export.onnx.builder import FLOAT, INT64, Site, Value
from moka.export.onnx.linear import rows_of
from moka.export.onnx.table import exports
from moka.layers.metric_learning.margin import (
    LargeMarginInnerProduct,
    MarginInnerProduct,
    length,
)

TINY = torch.finfo(torch.float32).tiny


@exports(MarginInnerProduct, LargeMarginInnerProduct)
def export_margin_inner_product(
    site: Site,
    layer: MarginInnerProduct | LargeMarginInnerProduct,
    x: Value,
    label: Value,
    weight: Value | None = None,
) -> list[str]:
    """With the lambda of a net's first pass."""
    rows = rows_of(site, x, layer.axis)
    if weight is None:
        values = layer.blobs[0].detach()
        if isinstance(layer, MarginInnerProduct):
            values = values / length(values)[:, None]
        classes, sizes = site.changed_weight(0, values), site.constant(length(values), "lengths")
    else:
        classes = rows_of(site, weight, 1).name
        sizes = _lengths(site, classes)
    scores = site.add("Gemm", rows.name, classes, transB=1)
    blend = layer.blend()
    if layer.margin > 1:
        own = own_classes(site, label, rows.dims[0])
        plain = site.add("GatherElements", scores, own, axis=1)
        size = site.add("Gather", sizes, own)
        size = site.add("Mul", size, site.add("Unsqueeze", _lengths(site, rows.name), site.ints(1)))
        hard = site.add("Mul", size, _psi(site, site.add("Div", plain, size), layer.margin))
        mixed = site.scaled(site.add("Add", site.scaled(plain, blend), hard), 1 / (1 + blend))
        scores = site.add("ScatterElements", scores, own, mixed, axis=1)
    dims = (rows.dims[0], site.tops[0][-1])
    return [site.reshape(Value(scores, dims), site.tops[0]), site.parts([blend])][: len(site.tops)]


def own_classes(site: Site, label: Value, rows: int) -> str:
    """The class of each row as an index, (M, 1)."""
    return site.add("Cast", site.reshape(label, (rows, 1)), to=INT64)


def _lengths(site: Site, rows: str) -> str:
    """Euclidean lengths (M,) of rows (M, K), never 0."""
    squares = site.reduce("ReduceSum", site.add("Mul", rows, rows), [1], keep=False)
    return site.add("Sqrt", site.add("Max", squares, site.number(TINY)))


def _psi(site: Site, cosine: str, margin: int) -> str:
    """(-1)^k cos(m theta) - 2 k, as `moka.layers.metric_learning.margin.psi` says."""
    before, multiple = site.number(1), cosine
    for _ in range(margin - 1):
        product = site.scaled(site.add("Mul", cosine, multiple), 2.0)
        before, multiple = multiple, site.add("Sub", product, before)
    limits = (cos(j * pi / margin) for j in range(1, margin))
    passed = [
        site.add("Cast", site.add("LessOrEqual", cosine, site.number(limit)), to=FLOAT)
        for limit in limits
    ]
    signs = [site.scaled(mark, -2.0, 1.0) for mark in passed]
    turned = reduce(lambda a, b: site.add("Mul", a, b), signs, multiple)
    count = reduce(lambda a, b: site.add("Add", a, b), passed)
    return site.add("Sub", turned, site.scaled(count, 2.0))
