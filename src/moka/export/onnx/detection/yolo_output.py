"""YOLO's last layers as NonMaxSuppression, with the rows of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.detection.boxes import (
    LOWEST,
    as_float,
    box_corners,
    or_nothing_found,
    pick,
    suppress,
)
from moka.export.onnx.table import exports
from moka.layers.detection.grid import VALUES, just_below
from moka.layers.detection.yolo_output import YoloDetectionOutput, Yolov3DetectionOutput

BOX_AND_DEVIATIONS = 8  # values of a box, each followed by its deviation


@exports(YoloDetectionOutput, rows_axis=2, fixed_from=1)
def export_yolo_detection_output(
    site: Site, layer: YoloDetectionOutput, x: Value, *more: Value
) -> str:
    """The cells of each anchor are one after another, as in the layer."""
    if more:
        raise NetError("cannot be exported: maps of two scales have no exporter yet.")
    images, _, height, width = x.dims
    count = layer.num_box
    cells = site.reshape(x, (images, count, VALUES + layer.num_classes, height, width))
    cells = site.add("Transpose", cells, perm=[0, 1, 3, 4, 2])
    sizes = site.ints(2, 2, 1, layer.num_classes)
    center, size, objectness, classes = site.add_several("Split", cells, sizes, outputs=4, axis=-1)
    anchors = np.array(layer.anchors).reshape(count, 1, 1, 2) / (width, height)
    boxes = _placed(site, center, size, anchors, _places(height, width))
    likely = site.add("Softmax", classes, axis=-1)
    scores = site.add("Mul", site.add("Sigmoid", objectness), likely)
    total = count * height * width
    best, label = _best_classes(site, scores, (images, total, layer.num_classes))
    wanted = site.add("GreaterOrEqual", best, site.number(layer.confidence_threshold))
    candidates = site.add("Where", wanted, best, site.number(LOWEST))
    boxes = site.reshape(Value(boxes, (images, count, height, width, 4)), (images, total, 4))
    return _rows(site, x, boxes, candidates, label, total, layer.nms_threshold)


@exports(Yolov3DetectionOutput, rows_axis=2, fixed_from=1)
def export_yolov3_detection_output(site: Site, layer: Yolov3DetectionOutput, *maps: Value) -> str:
    """A box with several classes counts once, with the best: its others overlap it altogether.
    Unless nothing is suppressed; then it counts once for each."""
    scales = [_scale(site, layer, k, x) for k, x in enumerate(maps)]
    boxes, scores = (
        site.add("Concat", *parts, axis=1) if len(maps) > 1 else parts[0]
        for parts in zip(*scales, strict=True)
    )
    total = sum(layer.num_box * x.dims[2] * x.dims[3] for x in maps)
    images, classes = maps[0].dims[0], layer.num_classes
    best, label = _best_classes(site, scores, (images, total, classes))
    if layer.nms_threshold > 1:
        best = site.reshape(Value(scores, (images, total, classes)), (images, total * classes))
        every = np.tile(np.arange(classes), total)[None]
        label = site.add("Expand", site.constant(every, "classes"), site.add("Shape", best))
        copies = site.add("Tile", boxes, site.ints(1, 1, classes))
        total *= classes
        boxes = site.reshape(Value(copies, (images, total // classes, 4 * classes)),
                             (images, total, 4))  # fmt: skip
    wanted = site.add("Greater", best, site.number(layer.confidence_threshold))
    candidates = site.add("Where", wanted, best, site.number(LOWEST))
    return _rows(site, maps[0], boxes, candidates, label, total, layer.nms_threshold)


def _scale(site: Site, layer: Yolov3DetectionOutput, k: int, x: Value) -> tuple[str, str]:
    """Boxes (N, M, 4) and scores of classes (N, M, C) of scale k, cell by cell."""
    images, channels, height, width = x.dims
    count, total = layer.num_box, layer.num_box * height * width
    cells = site.reshape(x, (images, count, channels // count, height, width))
    cells = site.add("Transpose", cells, perm=[0, 3, 4, 1, 2])
    certain = ""
    if layer.gaussian_box:
        sizes = [1] * BOX_AND_DEVIATIONS + [1, layer.num_classes]
        *parts, objectness, classes = site.add_several(
            "Split", cells, site.ints(*sizes), outputs=len(sizes), axis=-1
        )
        center, size = (site.add("Concat", *parts[i : i + 4 : 2], axis=-1) for i in (0, 4))
        unsure = (site.add("Sigmoid", part) for part in parts[1::2])
        certain = site.scaled(reduce(lambda a, b: site.add("Add", a, b), unsure), -0.25, 1.0)
    else:
        sizes = [2, 2, 1, layer.num_classes]
        center, size, objectness, classes = site.add_several(
            "Split", cells, site.ints(*sizes), outputs=4, axis=-1
        )
    pixels = np.array([width, height]) * layer.anchors_scale[k]
    anchors = np.array(layer.anchors[k]) / pixels
    boxes = _placed(site, center, size, anchors, _places(height, width)[:, :, None])
    likely = site.add("Sigmoid", objectness)
    likely = site.add("Mul", likely, certain) if certain else likely
    scores = site.add("Mul", site.add("Sigmoid", classes), likely)
    dims = (images, height, width, count)
    return (
        site.reshape(Value(boxes, (*dims, 4)), (images, total, 4)),
        site.reshape(Value(scores, (*dims, layer.num_classes)),
                     (images, total, layer.num_classes)),
    )  # fmt: skip


def _places(height: int, width: int) -> np.ndarray:
    """Column and row of each cell and the counts of both, (H, W, 2)."""
    row, column = np.mgrid[:height, :width]
    return np.stack([column, row], -1)


def _placed(site: Site, center: str, size: str, anchors: np.ndarray, places: np.ndarray) -> str:
    """Boxes (..., 4) as fractions of the image; see `moka.layers.detection.grid.placed`."""
    height, width = places.shape[:2]
    moved = site.add("Add", site.parts(places), site.add("Sigmoid", center))
    moved = site.add("Div", moved, site.parts([width, height]))
    return box_corners(site, moved, site.add("Mul", site.add("Exp", size), site.parts(anchors)))


def _best_classes(site: Site, scores: str, dims: tuple[int, int, int]) -> tuple[str, str]:
    """The best score of each box and its class, (N, M) each."""
    table = site.add("Reshape", scores, site.ints(0 if dims[0] < 0 else dims[0], *dims[1:]))
    best = site.reduce("ReduceMax", table, [2], keep=False)
    return best, site.add("ArgMax", table, axis=2, keepdims=0)


def _rows(
    site: Site, x: Value, boxes: str, scores: str, label: str, total: int, threshold: float
) -> str:
    """The top (1, 1, K, 7) from boxes (N, M, 4) and scores (N, M), LOWEST for no candidate."""
    alone = site.add("Unsqueeze", scores, site.ints(1))
    at_most = total if threshold > 0 else 1  # every box overlaps the best one by 0 or more
    least = max(just_below(threshold), 0.0)
    image, _, index = suppress(site, boxes, alone, least, LOWEST, at_most)
    place: Sequence[str] = (image, index)
    score, which = (site.add("Unsqueeze", pick(site, table, place), site.ints(1))
                    for table in (scores, as_float(site, label)))  # fmt: skip
    parts = as_float(site, image), site.scaled(which, 1.0, 1.0), score, pick(site, boxes, place)
    rows = site.add("Concat", *parts, axis=1)
    return site.add("Reshape", or_nothing_found(site, rows, x.name), site.ints(1, 1, -1, 7))
