"""The layer that marks where sequences start: a constant."""

from __future__ import annotations

from moka.export.onnx.builder import Site
from moka.export.onnx.table import exports
from moka.layers.sequence.indicator import ContinuationIndicator


@exports(ContinuationIndicator)
def export_continuation_indicator(site: Site, layer: ContinuationIndicator) -> str:
    (cont,) = layer()
    return site.constant(cont, "cont")
