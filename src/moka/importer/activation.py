"""Functions of each element, softmax and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.table import imports, refuse_operators

PLAIN = {
    "Sigmoid": "Sigmoid",
    "Tanh": "TanH",
    "Abs": "AbsVal",
    "Exp": "Exp",
    "Log": "Log",
    "Softplus": "BNLL",
}
POWERS = {  # power, scale, shift
    "Sqrt": (0.5, 1.0, 0.0),
    "Reciprocal": (-1.0, 1.0, 0.0),
    "Neg": (1.0, -1.0, 0.0),
}
LARGEST = float(np.finfo(np.float32).max)
# erf(x) = tanh(x (c0 + c1 x^2 + ...)): the coefficients with the smallest largest difference, 3e-6.
ERF = (1.12835817, 0.10293293, -4.968226e-4, -4.1513869e-4, 3.2244167e-5)
SELU = (1.67326319217681884765625, 1.05070102214813232421875)


@imports(*PLAIN)
def import_plain(site: NodeSite) -> None:
    site.give(site.add(PLAIN[site.node.op], site.blob(0)))


@imports(*POWERS)
def import_power_of_element(site: NodeSite) -> None:
    power, scale, shift = POWERS[site.node.op]
    site.give(site.power(site.blob(0), power=power, scale=scale, shift=shift))


@imports("Relu")
def import_relu(site: NodeSite) -> None:
    site.give(site.add("ReLU", site.blob(0)))


@imports("LeakyRelu")
def import_leaky_relu(site: NodeSite) -> None:
    slope = site.attribute("alpha", 0.01)
    site.give(site.add("ReLU", site.blob(0), relu_param={"negative_slope": slope}))


@imports("PRelu")
def import_prelu(site: NodeSite) -> None:
    """Slopes one a channel, or one for all."""
    x, slopes = site.blob(0), site.weights(1)
    if slopes.size == 1:
        y = site.add("PReLU", x, blobs=[slopes.reshape(())], prelu_param={"channel_shared": True})
    else:
        shape = (1,) * (len(x.shape) - slopes.ndim) + slopes.shape
        if shape[1:2] != x.shape[1:2] or slopes.size != shape[1]:
            raise NetError(f"Caffe's PReLU has a slope for each channel, its slopes have the shape"
                           f" {slopes.shape}.")  # fmt: skip
        y = site.add("PReLU", x, blobs=[slopes.reshape(-1)])
    site.give(y)


@imports("Elu")
def import_elu(site: NodeSite) -> None:
    site.give(site.add("ELU", site.blob(0), elu_param={"alpha": site.attribute("alpha", 1.0)}))


@imports("Selu")
def import_selu(site: NodeSite) -> None:
    y = site.add("ELU", site.blob(0), elu_param={"alpha": site.attribute("alpha", SELU[0])})
    site.give(site.power(y, scale=site.attribute("gamma", SELU[1])))


@imports("Celu")
def import_celu(site: NodeSite) -> None:
    alpha = site.attribute("alpha", 1.0)
    y = site.add("ELU", site.power(site.blob(0), scale=1 / alpha, part="before"))
    site.give(site.power(y, scale=alpha))


@imports("Softsign")
def import_softsign(site: NodeSite) -> None:
    x = site.blob(0)
    below = site.power(site.add("AbsVal", x, part="size"), shift=1, power=-1, part="below")
    site.give(site.eltwise("PROD", x, below))


@imports("ThresholdedRelu")
def import_thresholded_relu(site: NodeSite) -> None:
    x = site.blob(0)
    step = site.add("Threshold", x, part="step",
                    threshold_param={"threshold": site.attribute("alpha", 1.0)})  # fmt: skip
    site.give(site.eltwise("PROD", x, step))


@imports("Mish")
def import_mish(site: NodeSite) -> None:
    x = site.blob(0)
    gate = site.add("TanH", site.add("BNLL", x, part="softplus"), part="gate")
    site.give(site.eltwise("PROD", x, gate))


def clipped(site: NodeSite, x: MadeBlob, low: float, high: float, part: str = "clip") -> MadeBlob:
    """x within [low, high]; either may be infinite."""
    if (low, high) == (-np.inf, np.inf):
        return x
    if (low, high) == (0, np.inf):
        return site.add("ReLU", x, part=part)
    if (low, high) == (0, 6) and site.builder.extra_layers:
        return site.add("ReLU6", x, part=part)
    bounds = (max(low, -LARGEST), min(high, LARGEST))
    return site.add("Clip", x, part=part, clip_param={"min": bounds[0], "max": bounds[1]})


@imports("Clip")
def import_clip(site: NodeSite) -> None:
    low, high = (
        float(np.asarray(site.setting(name, k, default)).reshape(()))
        for name, k, default in (("min", 1, -np.inf), ("max", 2, np.inf))
    )
    site.give(clipped(site, site.blob(0), low, high))


def hard_sigmoid(
    site: NodeSite, x: MadeBlob, alpha: float, beta: float, part: str = "clip"
) -> MadeBlob:
    """alpha x + beta within [0, 1]."""
    return clipped(site, site.power(x, scale=alpha, shift=beta, part="line"), 0, 1, part)


@imports("HardSigmoid")
def import_hard_sigmoid(site: NodeSite) -> None:
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    site.give(hard_sigmoid(site, site.blob(0), alpha, beta))


@imports("HardSwish")
def import_hard_swish(site: NodeSite) -> None:
    x = site.blob(0)
    site.give(site.eltwise("PROD", x, hard_sigmoid(site, x, 1 / 6, 0.5, part="gate")))


@imports("Swish")
def import_swish(site: NodeSite) -> None:
    beta = site.attribute("alpha", 1.0)
    site.give(site.add("Swish", site.blob(0), swish_param={"beta": beta}))


def odd_tanh(site: NodeSite, x: MadeBlob, coefficients: Sequence[float]) -> MadeBlob:
    """tanh(c0 x + c1 x^3 + c2 x^5 + ...)."""
    square = site.power(x, power=2, part="square")
    *rest, before, last = coefficients
    factor = site.power(square, scale=last, shift=before, part="factor")
    for k, c in enumerate(reversed(rest)):
        factor = site.eltwise("PROD", factor, square, part=f"times{k}")
        factor = site.power(factor, shift=c, part=f"plus{k}")
    return site.add("TanH", site.eltwise("PROD", x, factor, part="odd"), part="tanh")


def error_function(site: NodeSite, x: MadeBlob) -> MadeBlob:
    """erf(x), to 3e-6."""
    return odd_tanh(site, x, ERF)


@imports("Erf")
def import_erf(site: NodeSite) -> None:
    site.give(error_function(site, site.blob(0)))


@imports("Gelu")
def import_gelu(site: NodeSite) -> None:
    x = site.blob(0)
    if site.attribute("approximate", "none") == "tanh":
        scale = float(np.sqrt(2 / np.pi))
        wave = odd_tanh(site, x, (scale, 0.044715 * scale))
    else:
        wave = error_function(site, site.power(x, scale=float(np.sqrt(0.5)), part="scaled"))
    gate = site.power(wave, scale=0.5, shift=0.5, part="gate")
    site.give(site.eltwise("PROD", x, gate))


@imports("Softmax", "LogSoftmax")
def import_softmax(site: NodeSite) -> None:
    """Before opset 13 it takes all axes from `axis` on as one."""
    x = site.blob(0)
    old = site.node.opset < 13
    axis = site.attribute("axis", 1 if old else -1) % len(x.shape)
    rows = x
    if old and int(np.prod(x.shape[axis + 1 :])) != 1:
        rows = site.reshape(x, (*x.shape[:axis], int(np.prod(x.shape[axis:]))), part="rows")
    options: dict[str, Any] = {"softmax_param": {"axis": axis}} if axis != 1 else {}
    y = site.add("Softmax", rows, part="softmax", **options)
    if site.node.op == "LogSoftmax":
        y = site.add("Log", y, part="log")
    site.give(site.reshape(y, x.shape))


@imports("Dropout")
def import_dropout(site: NodeSite) -> None:
    if site.is_used(1):
        raise NetError("its mask is read, which has no form in Caffe.")
    ratio = float(site.setting("ratio", 1, 0.5))
    site.give(site.add("Dropout", site.blob(0), dropout_param={"dropout_ratio": ratio}))


refuse_operators(
    "Caffe has no trigonometric functions.", "Sin", "Cos", "Tan", "Atan", "Asin", "Acos"
)
