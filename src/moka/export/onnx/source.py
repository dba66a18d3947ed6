"""Layers without bottoms whose values are known; the others are inputs of the graph."""

from __future__ import annotations

from moka.errors import NetError
from moka.export.onnx.builder import Site
from moka.export.onnx.table import exports
from moka.layers.source import DummyData, Parameter


@exports(Parameter)
def export_parameter(site: Site, layer: Parameter) -> str:
    return site.weight(0)


@exports(DummyData)
def export_dummy_data(site: Site, layer: DummyData) -> list[str]:
    constants = layer.made_once()
    if len(constants) < len(site.tops):
        raise NetError(
            "cannot be exported: its fillers draw new values in each pass.",
            advice="Make it an Input.",
        )
    return [site.constant(constants[k], "values") for k in range(len(site.tops))]
