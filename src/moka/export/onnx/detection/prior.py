"""Prior boxes, which depend on shapes only: constants."""

from __future__ import annotations

import torch

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.detection.prior import PriorBox, PriorBoxClustered


@exports(PriorBox, PriorBoxClustered, fixed_from=1)
def export_prior_box(
    site: Site, layer: PriorBox | PriorBoxClustered, x: Value, image: Value
) -> str:
    maps = (torch.empty(1, 1, *value.dims[2:]) for value in (x, image))
    return site.constant(layer(*maps), "boxes")
