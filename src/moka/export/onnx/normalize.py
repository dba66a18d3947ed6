"""Layers that bring values to a common scale."""

from __future__ import annotations

from math import prod

import torch

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.normalize import LRN, MVN, BatchNorm


@exports(LRN)
def export_lrn(site: Site, layer: LRN, x: Value) -> str:
    size = layer.local_size
    if layer.norm_region == "ACROSS_CHANNELS":
        return site.add("LRN", x.name, size=size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
    squares = site.add("Mul", x.name, x.name)
    mean = site.add(
        "AveragePool",
        squares,
        kernel_shape=[size, size],
        pads=[(size - 1) // 2] * 4,
        count_include_pad=1,
    )
    scale = site.add("Pow", site.scaled(mean, layer.alpha, 1.0), site.number(-layer.beta))
    return site.add("Mul", x.name, scale)


@exports(BatchNorm)
def export_batch_norm(site: Site, layer: BatchNorm, x: Value) -> str:
    if layer.use_global_stats is False:
        return _with_the_batch(site, layer, x)
    mean, variance, weight = layer.blobs
    scale = torch.where(weight == 0, 0.0, 1 / weight)
    ones, zeros = torch.ones_like(mean), torch.zeros_like(mean)
    return site.add(
        "BatchNormalization",
        x.name,
        site.constant(ones, "scale"),
        site.constant(zeros, "shift"),
        site.changed_weight(0, mean * scale),
        site.changed_weight(1, variance * scale),
        epsilon=layer.eps,
    )


def _with_the_batch(site: Site, layer: BatchNorm, x: Value) -> str:
    """x normalized with its own statistics."""
    axes = [0, *range(2, len(x.dims))]
    centered = site.add("Sub", x.name, site.reduce("ReduceMean", x.name, axes, keep=True))
    squares = site.add("Mul", centered, centered)
    variance = site.reduce("ReduceMean", squares, axes, keep=True)
    deviation = site.add("Sqrt", site.scaled(variance, 1.0, layer.eps))
    return site.add("Div", centered, deviation)


@exports(MVN)
def export_mvn(site: Site, layer: MVN, x: Value) -> str:
    top = site.tops[0]
    outer = 1 if layer.across_channels else 2
    count = prod(abs(d) for d in top[:outer]) * (-1 if min(top[:outer]) < 0 else 1)
    rows = site.reshaped(x, (count, prod(top[outer:])))
    mean = site.reduce("ReduceMean", rows.name, [1], keep=True)
    y = site.add("Sub", rows.name, mean)
    if layer.normalize_variance:
        variance = site.reduce("ReduceMean", site.add("Mul", y, y), [1], keep=True)
        y = site.add("Div", y, site.scaled(site.add("Sqrt", variance), 1.0, layer.eps))
    return site.reshape(Value(y, rows.dims), top)
