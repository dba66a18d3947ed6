"""Layers that leave out values by chance, which they do in training only."""

from __future__ import annotations

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.dropout import Dropout, SpatialDropout


@exports(Dropout)
def export_dropout(site: Site, layer: Dropout, x: Value) -> str:
    if layer.sample_weights_test:
        raise NetError(
            "cannot be exported: with sample_weights_test it draws in testing too.",
            advice="Leave it out: the layer then hands its values on.",
        )
    return x.name if layer.scale_train else site.scaled(x.name, 1 - layer.dropout_ratio)


@exports(SpatialDropout)
def export_spatial_dropout(site: Site, layer: SpatialDropout, x: Value) -> str:
    return x.name
