"""Functions of each element that only forks have."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.fork_activation import HardSwish, Mish, SignedSqrt


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
