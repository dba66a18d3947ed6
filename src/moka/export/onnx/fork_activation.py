"""Functions of each element that only forks have."""

from __future__ import annotations

from moka.export.onnx.activation import rectified
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports, refuse
from moka.layers.fork_activation import (
    CReLU,
    HardSwish,
    Mish,
    ScaleTanH,
    SeLU,
    SignDiffusion,
    SignedSqrt,
)
from moka.layers.shapes import canonical_axis

refuse(
    "its function changes from pass to pass: put a Power and a TanH layer in its place, with the"
    " scale at which it ended.",
    ScaleTanH,
    SignDiffusion,
)


@exports(Mish)
def export_mish(site: Site, layer: Mish, x: Value) -> str:
    return site.add("Mul", x.name, site.add("Tanh", site.add("Softplus", x.name)))


@exports(HardSwish)
def export_hard_swish(site: Site, layer: HardSwish, x: Value) -> str:
    return site.add("Mul", x.name, site.add("HardSigmoid", x.name, alpha=1 / 6, beta=0.5))


@exports(SignedSqrt)
def export_signed_sqrt(site: Site, layer: SignedSqrt, x: Value) -> str:
    root = site.add("Sqrt", site.add("Abs", x.name))
    return site.add("Mul", root, site.add("Sign", x.name))


@exports(SeLU)
def export_selu(site: Site, layer: SeLU, x: Value) -> str:
    return site.add("Selu", x.name, alpha=layer.alpha, gamma=layer.scale)


@exports(CReLU)
def export_crelu(site: Site, layer: CReLU, x: Value) -> str:
    halves = [rectified(site, y, layer.negative_slope) for y in (x.name, site.add("Neg", x.name))]
    return site.add("Concat", *halves, axis=canonical_axis(layer.concat_axis, x.dims))
