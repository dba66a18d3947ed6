"""Layers that combine blobs element by element."""

from __future__ import annotations

from functools import reduce
from math import prod

import torch

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.arithmetic import Bias, Eltwise, Reduction, Scale
from moka.layers.shapes import canonical_axis


@exports(Eltwise)
def export_eltwise(site: Site, layer: Eltwise, *bottoms: Value) -> str:
    names = [x.name for x in bottoms]
    if layer.operation == "MAX":
        return site.add("Max", *names)
    if layer.operation == "PROD":
        return reduce(lambda a, b: site.add("Mul", a, b), names)
    if layer.coeff:
        names = [site.scaled(x, c) for x, c in zip(names, layer.coeff, strict=True)]
    return reduce(lambda a, b: site.add("Add", a, b), names)


def _broadcast(site: Site, layer: Scale | Bias, other: Value, x: Value) -> str:
    """The second operand with axes of size 1 added, so that it broadcasts over x."""
    at = canonical_axis(layer.axis, x.dims) if other.dims else 0
    after = len(x.dims) - at - len(other.dims)
    return site.reshape(other, (*(1,) * at, *other.dims, *(1,) * after))


def _learned(site: Site, layer: Scale | Bias, index: int, x: Value) -> str:
    """Parameter number `index` in a shape that broadcasts over x."""
    values = layer.blobs[index]
    at = canonical_axis(layer.axis, x.dims) if values.dim() else 0
    after = len(x.dims) - at - values.dim()
    return site.changed_weight(index, values.reshape(*values.shape, *(1,) * after))


@exports(Bias)
def export_bias(site: Site, layer: Bias, x: Value, other: Value | None = None) -> str:
    bias = _learned(site, layer, 0, x) if other is None else _broadcast(site, layer, other, x)
    return site.add("Add", x.name, bias)


@exports(Scale)
def export_scale(site: Site, layer: Scale, x: Value, other: Value | None = None) -> str:
    if _is_by_channel(layer, x, other):
        zeros = torch.zeros_like(layer.blobs[0])
        statistics = site.constant(zeros, "mean"), site.constant(zeros + 1, "variance")
        return site.add("BatchNormalization", x.name, *site.weights(), *statistics, epsilon=0.0)
    factor = _learned(site, layer, 0, x) if other is None else _broadcast(site, layer, other, x)
    y = site.add("Mul", x.name, factor)
    if layer.bias_term:
        y = site.add("Add", y, _learned(site, layer, len(layer.blobs) - 1, x))
    return y


def _is_by_channel(layer: Scale, x: Value, other: Value | None) -> bool:
    """Whether a layer is y = a x + b with a learned a and b for each channel of (N, C, ...): one
    operator does both."""
    channels = canonical_axis(layer.axis, x.dims) == 1 and other is None
    return channels and layer.bias_term and layer.blobs[0].dim() == 1 and len(x.dims) > 1


@exports(Reduction)
def export_reduction(site: Site, layer: Reduction, x: Value) -> str:
    first = canonical_axis(layer.axis, x.dims)
    y = x.name
    if layer.operation == "TOPK":
        outer = x.dims[:first]
        rows = site.reshape(x, (*outer, prod(x.dims[first:])))
        best, _ = site.add_several("TopK", rows, site.ints(layer.k), outputs=2, axis=-1)
        return site.scaled(site.reduce("ReduceMean", best, [first], keep=False), layer.coeff)
    if layer.operation == "ASUM":
        y = site.add("Abs", y)
    elif layer.operation == "SUMSQ":
        y = site.add("Mul", y, y)
    op = "ReduceMean" if layer.operation == "MEAN" else "ReduceSum"
    axes = range(first, len(x.dims))
    if not axes:  # a scalar
        return site.scaled(y, layer.coeff)
    return site.scaled(site.reduce(op, y, axes, keep=False), layer.coeff)
