"""An additive margin, which testing leaves out by default."""

from __future__ import annotations

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.linear import rows_of
from moka.export.onnx.metric_learning.margin import own_classes
from moka.export.onnx.table import exports
from moka.layers.metric_learning.additive import LabelSpecificAdd


@exports(LabelSpecificAdd)
def export_label_specific_add(
    site: Site, layer: LabelSpecificAdd, x: Value, label: Value
) -> list[str]:
    """With the bias of a net's first pass."""
    bias, y = layer.current_bias(), x.name
    if layer.is_active:
        rows = rows_of(site, x, 1)
        own = own_classes(site, label, rows.dims[0])
        score = site.add("GatherElements", rows.name, own, axis=1)
        above = site.add("Cast", site.add("Greater", score, site.number(-bias)), to=FLOAT)
        lowered = site.add("Add", score, site.scaled(above, bias))
        filled = site.add("ScatterElements", rows.name, own, lowered, axis=1)
        y = site.reshape(Value(filled, rows.dims), x.dims)
    return [y, site.parts([bias])][: len(site.tops)]
