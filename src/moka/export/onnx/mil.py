"""Probabilities of a whole that come from its parts."""

from __future__ import annotations

from math import prod

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.mil import MIL


@exports(MIL, fixed_from=1)
def export_mil(site: Site, layer: MIL, x: Value) -> str:
    """The parts lie along axis 2, or with context_per_roi along axis 1."""
    channels, positions = x.dims[1], prod(x.dims[2:])
    rows = layer.context_per_roi
    parts = site.reshape(x, (-1, rows, channels) if rows else (-1, channels, positions))
    axes = [1] if rows else [2]
    y = site.reduce("ReduceMax", parts, axes, keep=False)
    if layer.kind == "NOR":
        none = site.reduce("ReduceProd", site.scaled(parts, -1.0, 1.0), axes, keep=False)
        y = site.add("Max", site.scaled(none, -1.0, 1.0), y)
    return site.reshape(Value(y, (-1, channels)), site.tops[0])
