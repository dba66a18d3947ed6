"""Layers that apply a function to each element, and softmax."""

from __future__ import annotations

from math import log

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.table import exports
from moka.layers.activation import (
    BNLL,
    ELU,
    AbsVal,
    Clip,
    Exp,
    Log,
    NegReLU,
    Power,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    Softmax,
    SoftTruncation,
    Swish,
    TanH,
    Threshold,
    Truncation,
)


@exports(ReLU)
def export_relu(site: Site, layer: ReLU, x: Value) -> str:
    return rectified(site, x.name, layer.negative_slope)


def rectified(site: Site, x: str, negative_slope: float) -> str:
    """max(x, 0) + negative_slope * min(x, 0)."""
    if negative_slope:
        return site.add("LeakyRelu", x, alpha=negative_slope)
    return site.add("Relu", x)


@exports(Sigmoid)
def export_sigmoid(site: Site, layer: Sigmoid, x: Value) -> str:
    return site.add("Sigmoid", x.name)


@exports(TanH)
def export_tanh(site: Site, layer: TanH, x: Value) -> str:
    return site.add("Tanh", x.name)


@exports(Softmax)
def export_softmax(site: Site, layer: Softmax, x: Value) -> str:
    return site.add("Softmax", x.name, axis=layer.axis)


@exports(AbsVal)
def export_absval(site: Site, layer: AbsVal, x: Value) -> str:
    return site.add("Abs", x.name)


@exports(BNLL)
def export_bnll(site: Site, layer: BNLL, x: Value) -> str:
    return site.add("Softplus", x.name)


@exports(Clip)
def export_clip(site: Site, layer: Clip, x: Value) -> str:
    known = site.add("Where", site.add("IsNaN", x.name), site.number(layer.min), x.name)
    below = site.add("Min", known, site.number(layer.max))
    return site.add("Max", below, site.number(layer.min))


@exports(ELU)
def export_elu(site: Site, layer: ELU, x: Value) -> str:
    return site.add("Elu", x.name, alpha=layer.alpha)


@exports(Exp)
def export_exp(site: Site, layer: Exp, x: Value) -> str:
    factor = 1.0 if layer.base == -1 else log(layer.base)
    return site.add("Exp", site.scaled(x.name, layer.scale * factor, layer.shift * factor))


@exports(Log)
def export_log(site: Site, layer: Log, x: Value) -> str:
    factor = 1.0 if layer.base == -1 else 1 / log(layer.base)
    y = site.add("Log", site.scaled(x.name, layer.scale, layer.shift))
    return site.scaled(y, factor)


@exports(Power)
def export_power(site: Site, layer: Power, x: Value) -> str:
    if layer.power * layer.scale == 0:
        zero = site.add("Mul", x.name, site.number(0))
        return site.add("Add", zero, site.number(layer.shift**layer.power))
    y = site.scaled(x.name, layer.scale, layer.shift)
    if layer.power == 1:
        return y
    if layer.power == 2:
        return site.add("Mul", y, y)
    return site.add("Pow", y, site.number(layer.power))


@exports(PReLU)
def export_prelu(site: Site, layer: PReLU, x: Value) -> str:
    slopes = layer.blobs[0].reshape(-1, *(1,) * (len(x.dims) - 2))
    return site.add("PRelu", x.name, site.changed_weight(0, slopes))


@exports(Swish)
def export_swish(site: Site, layer: Swish, x: Value) -> str:
    return site.add("Mul", x.name, site.add("Sigmoid", site.scaled(x.name, layer.beta)))


@exports(Threshold)
def export_threshold(site: Site, layer: Threshold, x: Value) -> str:
    above = site.add("Greater", x.name, site.number(layer.threshold))
    return site.add("Cast", above, to=FLOAT)


@exports(ReLU6)
def export_relu6(site: Site, layer: ReLU6, x: Value) -> str:
    return site.add("Min", rectified(site, x.name, layer.negative_slope), site.number(6))


@exports(NegReLU)
def export_neg_relu(site: Site, layer: NegReLU, x: Value) -> str:
    below = site.add("Less", x.name, site.number(0))
    return site.add(
        "Where", below, x.name, site.add("Mul", x.name, site.number(layer.negative_slope))
    )


@exports(Truncation)
def export_truncation(site: Site, layer: Truncation, x: Value) -> str:
    above = site.add("Max", x.name, site.number(layer.lower_bound))
    return site.add("Min", above, site.number(layer.upper_bound))


@exports(SoftTruncation)
def export_soft_truncation(site: Site, layer: SoftTruncation, x: Value) -> str:
    falling = site.add("Exp", site.scaled(x.name, -1 / layer.c))
    return site.add("Sub", site.number(1), falling)
