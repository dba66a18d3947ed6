"""A layer that adds or subtracts a mean."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.mean import Mean


@exports(Mean)
def export_mean(site: Site, layer: Mean, *bottoms: Value) -> list[str]:
    tops = []
    for x in bottoms:
        addend = site.constant(layer.addend(x.dims[1], len(x.dims)), "mean")
        y = site.add("Add", site.scaled(x.name, layer.input_scale), addend)
        tops.append(site.scaled(y, layer.output_scale))
    return tops
