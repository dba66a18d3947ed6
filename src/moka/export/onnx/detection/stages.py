"""The stages of Cascade R-CNN: regions that are moved, and those of one range of sizes."""

from __future__ import annotations

from math import inf, log

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.detection.boxes import as_float, columns, halves, marked
from moka.export.onnx.detection.regression import region_boxes, restored, rows_of_width
from moka.export.onnx.table import exports
from moka.layers.detection.stages import DecodeBBox, ScaleRoute


@exports(DecodeBBox, keeps_rows=True)
def export_decode_bbox(site: Site, layer: DecodeBBox, deltas: Value, rois: Value) -> str:
    moves = site.slice(rows_of_width(site, deltas, 8), 1, 4, 8)
    image, regions = site.add_several(
        "Split", rows_of_width(site, rois, 5), site.ints(1, 4), outputs=2, axis=1
    )
    boxes = region_boxes(site, restored(site, moves, layer.deltas), regions)
    whole = Value(site.add("Concat", image, boxes, axis=1), (rois.dims[0], 5))
    return site.reshape(whole, site.tops[0])


@exports(ScaleRoute)
def export_scale_route(site: Site, layer: ScaleRoute, *bottoms: Value) -> list[str]:
    boxes = site.slice(rows_of_width(site, bottoms[0], 5), 1, 1, 5)
    first, second = halves(site, boxes)
    sides = site.add("Max", site.scaled(site.add("Sub", second, first), 1.0, 1.0), site.number(0))
    area = site.add("Squeeze", site.add("Mul", *columns(site, sides, 2)), site.ints(1))
    scale = site.add("Sqrt", area)
    kept = site.add("GreaterOrEqual", scale, site.number(layer.low))
    if layer.high < inf:
        kept = site.add("And", kept, site.add("Less", scale, site.number(layer.high)))
    away = site.add("Abs", site.scaled(site.add("Log", scale), 1.0, -log(layer.middle)))
    nearest = marked(site, away, site.add("ArgMin", away, axis=0, keepdims=1))
    count = site.reduce("ReduceSum", as_float(site, kept), [0], keep=True)
    none = site.add("Equal", count, site.number(0))
    kept = site.add("Or", kept, site.add("And", none, nearest))
    return [site.add("Compress", x.name, kept, axis=0) for x in bottoms]
