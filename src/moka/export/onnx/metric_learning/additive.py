"""An additive margin, which testing leaves out by default."""

from __future__ import annotations

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.dims import Dims
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
        rows, own, score = own_scores(site, x, label)
        above = site.add("Cast", site.add("Greater", score, site.number(-bias)), to=FLOAT)
        lowered = site.add("Add", score, site.scaled(above, bias))
        y = with_own_scores(site, rows.name, own, lowered, rows.dims)
    return [y, site.parts([bias])][: len(site.tops)]


def own_scores(site: Site, x: Value, label: Value) -> tuple[Value, str, str]:
    """The scores as rows, and of each row the index of its own class and that class's score."""
    rows = rows_of(site, x, 1)
    own = own_classes(site, label, rows.dims[0])
    return rows, own, site.add("GatherElements", rows.name, own, axis=1)


def with_own_scores(site: Site, x: str, own: str, scores: str, dims: Dims) -> str:
    """Rows x of these dims with the scores of the classes `own` in their places, as the top."""
    filled = site.add("ScatterElements", x, own, scores, axis=1)
    return site.reshape(Value(filled, dims), site.tops[0])
