"""Masks of regions."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.grid import multiplied
from moka.export.onnx.table import exports
from moka.layers.detection.masks import MaskPooling, MaskResize, stretched_weights


@exports(MaskResize, fixed_from=1)
def export_mask_resize(site: Site, layer: MaskResize, x: Value) -> str:
    axes = zip(x.dims[2:], site.tops[0][2:], strict=True)
    return multiplied(site, x.name, *(stretched_weights(n, m) for n, m in axes))


@exports(MaskPooling)
def export_mask_pooling(site: Site, layer: MaskPooling, x: Value, mask: Value) -> str:
    return site.add("Mul", x.name, mask.name)
