"""Layers that change only the gradient are nothing in an exported net."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.gradient import GradientReversal, GradientScaler


@exports(GradientScaler, GradientReversal)
def export_gradient(site: Site, layer: GradientScaler | GradientReversal, x: Value) -> str:
    return x.name
