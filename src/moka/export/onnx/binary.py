"""Activations of few values."""

from __future__ import annotations

from moka.export.onnx.activation import rectified
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.binary import Quant


@exports(Quant)
def export_quant(site: Site, layer: Quant, x: Value) -> str:
    kind, number = layer.forward_func, site.number
    if kind == "relu":
        return rectified(site, x.name, layer.negative_slope)
    if kind == "hard_tanh":
        return site.add("Clip", x.name, number(-1), number(1))
    if kind == "sign":
        is_positive = site.add("GreaterOrEqual", x.name, number(0))
        return site.add("Where", is_positive, number(1), number(-1))
    y = number(layer.centers[-1])
    for step, center in reversed(list(zip(layer.steps(), layer.centers, strict=False))):
        y = site.add("Where", site.add("LessOrEqual", x.name, number(step)), number(center), y)
    is_negative = site.add("LessOrEqual", x.name, number(0))
    return site.add("Where", is_negative, number(-layer.negative_slope), y)
