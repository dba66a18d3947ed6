"""Functions of each element, and arithmetic."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor

from moka.errors import NetError
from moka.export.torch.table import writes
from moka.export.torch.writer import ModuleSite, number


@writes("ReLU")
def write_relu(site: ModuleSite) -> str:
    slope = site.option("negative_slope")
    x = site.bottoms[0]
    return f"F.leaky_relu({x}, {number(slope)})" if slope else f"F.relu({x})"


@writes("NegReLU")
def write_negative_relu(site: ModuleSite) -> str:
    x = site.bottoms[0]
    return f"torch.where({x} < 0, {x}, {x} * {number(site.option('negative_slope'))})"


@writes("ReLU6")
def write_relu6(site: ModuleSite) -> str:
    return f"F.relu6({site.bottoms[0]})"


@writes("Sigmoid", "TanH", "AbsVal")
def write_plain(site: ModuleSite) -> str:
    name = {"Sigmoid": "sigmoid", "TanH": "tanh", "AbsVal": "abs"}[site.layer.entry.type]
    return f"torch.{name}({site.bottoms[0]})"


@writes("BNLL")
def write_bnll(site: ModuleSite) -> str:
    return f"F.softplus({site.bottoms[0]})"


@writes("ELU")
def write_elu(site: ModuleSite) -> str:
    return f"F.elu({site.bottoms[0]}, {number(site.option('alpha'))})"


@writes("SeLU")
def write_selu(site: ModuleSite) -> str:
    alpha, scale = number(site.option("alpha")), number(site.option("scale"))
    return f"{scale} * F.elu({site.bottoms[0]}, {alpha})"


@writes("CReLU")
def write_crelu(site: ModuleSite) -> str:
    x, slope = site.bottoms[0], number(site.option("negative_slope"))
    halves = f"F.leaky_relu({x}, {slope}), F.leaky_relu(-{x}, {slope})"
    return f"torch.cat([{halves}], {site.option('concat_axis')})"


@writes("Quant")
def write_quant(site: ModuleSite) -> str:
    x, kind = site.bottoms[0], site.option("forward_func")
    slope = site.option("negative_slope")
    if kind == "relu":
        return f"F.leaky_relu({x}, {number(slope)})"
    if kind == "hard_tanh":
        return f"{x}.clamp(-1, 1)"
    if kind == "sign":
        return f"torch.where({x} >= 0, 1.0, -1.0)"
    layer: Any = site.layer
    steps = site.buffer("steps", torch.tensor(layer.steps()))
    centers = site.buffer("centers", torch.tensor(layer.centers))
    return f"torch.where({x} <= 0, {number(-slope)}, {centers}[torch.bucketize({x}, {steps})])"


@writes("PReLU")
def write_prelu(site: ModuleSite) -> str:
    slopes = site.layer.blobs[0]
    call = site.module("PReLU", slopes.numel())
    site.hold("weight", slopes.reshape(-1), slopes)
    return f"{call}({site.bottoms[0]})"


@writes("Clip", "Truncation")
def write_clip(site: ModuleSite) -> str:
    ends = ("min", "max") if site.layer.entry.type == "Clip" else ("lower_bound", "upper_bound")
    low, high = (number(site.option(end)) for end in ends)
    return f"{site.bottoms[0]}.clamp({low}, {high})"


@writes("Swish")
def write_swish(site: ModuleSite) -> str:
    x, beta = site.bottoms[0], site.option("beta")
    return f"F.silu({x})" if beta == 1 else f"{x} * torch.sigmoid({number(beta)} * {x})"


@writes("Threshold")
def write_threshold(site: ModuleSite) -> str:
    x = site.bottoms[0]
    return f"({x} > {number(site.option('threshold'))}).to({x}.dtype)"


@writes("Power")
def write_power(site: ModuleSite) -> str:
    power, scale, shift = (site.option(name) for name in ("power", "scale", "shift"))
    y = _line(str(site.bottoms[0]), scale, shift)
    return y if power == 1 else f"({y}) ** {number(power)}"


def _line(x: str, scale: float, shift: float) -> str:
    """scale x + shift."""
    y = x if scale == 1 else f"{x} * {number(scale)}"
    return f"{y} + {number(shift)}" if shift else y


@writes("Exp")
def write_exp(site: ModuleSite) -> str:
    base, scale, shift = (site.option(name) for name in ("base", "scale", "shift"))
    factor = 1.0 if base == -1 else log(base)
    return f"torch.exp({_line(str(site.bottoms[0]), scale * factor, shift * factor)})"


@writes("Log")
def write_log(site: ModuleSite) -> str:
    base, scale, shift = (site.option(name) for name in ("base", "scale", "shift"))
    y = f"torch.log({_line(str(site.bottoms[0]), scale, shift)})"
    return y if base == -1 else f"{y} * {number(1 / log(base))}"


@writes("Dropout")
def write_dropout(site: ModuleSite) -> str:
    ratio = site.option("dropout_ratio")
    y = f"F.dropout({site.bottoms[0]}, {number(ratio)}, self.training)"
    return y if site.option("scale_train") else f"{y} * {number(1 - ratio)}"


@writes("SpatialDropout")
def write_spatial_dropout(site: ModuleSite) -> str:
    x, ratio = site.bottoms[0], number(site.option("dropout_ratio"))
    return f"{x} * F.dropout({x}.new_ones({x}.shape[:2]), {ratio}, self.training)" + (
        f"[(...,) + (None,) * {len(x.shape) - 2}]" if len(x.shape) > 2 else ""
    )


@writes("Softmax")
def write_softmax(site: ModuleSite) -> str:
    return f"torch.softmax({site.bottoms[0]}, {site.option('axis')})"


@writes("ArgMax")
def write_argmax(site: ModuleSite) -> str:
    x, axis = site.bottoms[0], site.layer.config.argmax_param
    if axis.top_k != 1 or axis.out_max_val or not axis.HasField("axis"):
        raise NetError("only the largest place along one axis has a short form in PyTorch.")
    return f"{x}.argmax({axis.axis}, keepdim=True).to({x}.dtype)"


@writes("Eltwise")
def write_eltwise(site: ModuleSite) -> str:
    names, operation = [str(x) for x in site.bottoms], site.option("operation")
    if operation == "PROD":
        return " * ".join(names)
    if operation == "MAX":
        y = names[0]
        for name in names[1:]:
            y = f"torch.maximum({y}, {name})"
        return y
    coeffs = site.option("coeff") or (1.0,) * len(names)
    terms = [_line(name, coeff, 0) for name, coeff in zip(names, coeffs, strict=True)]
    return " + ".join(terms)


@writes("Scale", "Bias")
def write_scale(site: ModuleSite) -> str:
    x, layer = site.bottoms[0], site.layer
    blobs = list(layer.blobs)
    covered = site.option("covered")
    axis = site.option("axis") % len(x.shape) if covered else 0
    tail = (1,) * (len(x.shape) - axis - len(covered))

    def wide(values: Tensor) -> Tensor:
        return values.reshape(*covered, *tail)

    if site.option("learned"):
        key = "weight" if layer.entry.type == "Scale" else "bias"
        operand = site.parameter(key, wide(blobs[0]), blobs[0])
    else:
        operand = str(site.bottoms[1])
        if tail:
            operand += f"[(...,) + (None,) * {len(tail)}]"
    if layer.entry.type == "Bias":
        return f"{x} + {operand}"
    y = f"{x} * {operand}"
    if site.option("bias_term"):
        y += f" + {site.parameter('bias', wide(blobs[-1]), blobs[-1])}"
    return y


@writes("Mean")
def write_mean(site: ModuleSite) -> list[str]:
    layer: Any = site.layer
    tops = []
    for i, x in enumerate(site.bottoms):
        addend = site.buffer(f"mean{i or ''}", layer.addend(x.shape[1], len(x.shape)))
        y = f"{_line(str(x), layer.input_scale, 0)} + {addend}"
        scale = layer.output_scale
        tops.append(y if scale == 1 else f"({y}) * {number(scale)}")
    return tops


@writes("Axpy")
def write_axpy(site: ModuleSite) -> str:
    a, x, y = site.bottoms
    factor = f"{a}[:, :, None, None]" if len(a.shape) == 2 else str(a)
    return f"{factor} * {x} + {y}"


@writes("Reduction")
def write_reduction(site: ModuleSite) -> str:
    x, operation, coeff = site.bottoms[0], site.option("operation"), site.option("coeff")
    axis = site.option("axis") % len(x.shape)
    y = {"ASUM": f"{x}.abs()", "SUMSQ": f"{x}.square()"}.get(operation, str(x))
    return _line(f"{y}.flatten({axis}).{'mean' if operation == 'MEAN' else 'sum'}(-1)", coeff, 0)
