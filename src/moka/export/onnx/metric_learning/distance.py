"""Distances of features to the centers of classes."""

from __future__ import annotations

import torch

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.linear import rows_of
from moka.export.onnx.table import exports
from moka.layers.metric_learning.distance import CENTER_EPS, InnerDistance


@exports(InnerDistance)
def export_inner_distance(site: Site, layer: InnerDistance, x: Value, *others: Value) -> str:
    rows = rows_of(site, x, layer.axis)
    if layer.has_centers:
        centers = rows_of(site, others[0], 1).name
    else:
        values = layer.blobs[0].detach()
        values = values.t() if layer.transpose else values
        if layer.normalize:
            values = values * torch.rsqrt(values.square().sum(1, keepdim=True) + CENTER_EPS)
        centers = site.changed_weight(0, values)
    if layer.distance_type == "L1":
        apart = site.add("Sub", site.add("Unsqueeze", rows.name, site.ints(1)), centers)
        y = site.reduce("ReduceSum", site.add("Abs", apart), [2], keep=False)
    else:
        own = _squares(site, rows.name, keep=True)
        both = site.add("Add", own, _squares(site, centers, keep=False))
        shared = site.add("Gemm", rows.name, centers, transB=1, alpha=-2.0)
        y = site.add("Max", site.add("Add", both, shared), site.number(0))
    return site.reshape(Value(y, (rows.dims[0], site.tops[0][-1])), site.tops[0])


def _squares(site: Site, rows: str, *, keep: bool) -> str:
    """Sums of squares of rows, (M, 1) or (M,)."""
    return site.reduce("ReduceSum", site.add("Mul", rows, rows), [1], keep=keep)
