"""The layer at the end of Cascade R-CNN as NonMaxSuppression. Files that it writes are left out."""

from __future__ import annotations

from math import prod

import numpy as np

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.detection.boxes import LOWEST, as_float, halves, marked, pick, suppress
from moka.export.onnx.detection.regression import region_boxes, restored, rows_of_width
from moka.export.onnx.table import exports
from moka.layers.detection.frcnn_output import FrcnnOutput

FIRST_ROW = (0.0, *(-1.0,) * 6)


@exports(FrcnnOutput)
def export_frcnn_output(
    site: Site, layer: FrcnnOutput, scores: Value, deltas: Value, rois: Value, size: Value
) -> str:
    if layer.nms_type != "IOU":
        raise NetError(f"cannot be exported: ONNX's NonMaxSuppression has no {layer.nms_type}.")
    classes = prod(scores.dims[1:])
    values = site.add("Transpose", rows_of_width(site, scores, classes), perm=[1, 0])  # (C, R)
    wanted = site.add("GreaterOrEqual", values, site.number(layer.conf_thr))
    counts = site.constant(np.arange(classes)[:, None] > 0, "classes")
    good = site.add("And", wanted, counts)
    candidates = site.add("Where", good, values, site.number(LOWEST))
    boxes = _boxes(site, layer, deltas, rois, size, classes)
    wide = site.add("Add", boxes, site.parts([0, 0, 1, 1]))  # both corners included
    alone = site.add("Unsqueeze", candidates, site.ints(1))
    label, _, index = suppress(site, wide, alone, layer.iou_thr, LOWEST, np.iinfo(np.int32).max)
    place = (label, index)
    score = site.add("Unsqueeze", pick(site, candidates, place), site.ints(1))
    corners, which = pick(site, boxes, place), as_float(site, label)
    found = site.add("Concat", site.scaled(which, 0.0), corners, which, score, axis=1)
    if layer.max_det_num > 0:
        found = _best(site, found, score, layer.max_det_num)
    whole = site.add("Concat", site.parts(np.array([FIRST_ROW])), found, axis=0)
    return site.add("Reshape", whole, site.ints(-1, 7, 1, 1))


def _boxes(
    site: Site, layer: FrcnnOutput, deltas: Value, rois: Value, size: Value, classes: int
) -> str:
    """Boxes (C, R, 4) in pixels, cut to the image."""
    places = prod(deltas.dims[1:]) // 4
    moves = site.reshape(deltas, (deltas.dims[0], places, 4))
    moves = site.add("Transpose", moves, perm=[1, 0, 2])
    if not layer.cls_aware:
        moves = site.slice(moves, 0, 1, 2)
    regions = site.slice(rows_of_width(site, rois, prod(rois.dims[1:])), 1, 1, 5)
    boxes = region_boxes(site, restored(site, moves, layer.deltas), regions)
    if not layer.cls_aware:
        boxes = site.add("Tile", boxes, site.ints(classes, 1, 1))
    first, second = halves(site, boxes)
    flat = site.add("Reshape", size.name, site.ints(2))
    limit = site.add("Gather", flat, site.ints(1, 0))  # width, height
    first, second = site.add("Max", first, site.number(0)), site.add("Min", second, limit)
    return site.add("Concat", first, second, axis=-1)


def _best(site: Site, found: str, score: str, most: int) -> str:
    """The rows with the best scores, in their order."""
    flat = site.add("Squeeze", score, site.ints(1))
    count = site.add("Min", site.add("Shape", flat), site.ints(most))
    _, index = site.add_several("TopK", flat, count, outputs=2, axis=0)
    return site.add("Compress", found, marked(site, flat, index), axis=0)
