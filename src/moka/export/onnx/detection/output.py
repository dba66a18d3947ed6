"""SSD's last layer as NonMaxSuppression, with the rows of the layer."""

from __future__ import annotations

from math import prod

import numpy as np

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.detection.boxes import (
    LOWEST,
    as_float,
    decoded_boxes,
    marked,
    only_best,
    or_nothing_found,
    pick,
    suppress,
)
from moka.export.onnx.table import exports
from moka.layers.detection.output import DetectionOutput


@exports(DetectionOutput, rows_axis=2, fixed_from=1)
def export_detection_output(
    site: Site, layer: DetectionOutput, offsets: Value, scores: Value, priors: Value, *first: Value
) -> str:
    limits, classes = layer.limits, layer.num_classes
    if limits.eta < 1 and limits.threshold > 0.5:
        raise NetError("cannot be exported: ONNX's NonMaxSuppression has no eta below 1.")
    if layer.use_polygon:
        raise NetError("cannot be exported: use_polygon has no exporter yet.")
    if layer.do_state_prediction:
        raise NetError("cannot be exported: do_state_prediction has no exporter yet.")
    count, images = prod(priors.dims) // 8, scores.dims[0]
    base, variances = _priors(site, layer, priors, count)
    if len(first) > 1:
        moves = site.reshape(first[1], (images, count, 4))
        base = decoded_boxes(site, moves, base, variances, layer.code_type)
        if not layer.share_location:
            base = site.add("Unsqueeze", base, site.ints(1))
    confidence = _confidence(site, layer, scores, first, count)
    boxes = _boxes(site, layer, offsets, count, base, variances)
    image, label, prior = _chosen(site, layer, boxes, confidence, images, count)
    place = (image, prior) if layer.share_location else (image, label, prior)
    score = pick(site, confidence, (image, label, prior))
    rows = site.add(
        "Concat",
        as_float(site, image),
        as_float(site, label),
        site.add("Unsqueeze", score, site.ints(1)),
        pick(site, boxes, place),
        axis=1,
    )
    if limits.keep_top_k >= 0:
        flat = site.add("Mul", image, site.ints(classes * count))
        flat = site.add("Add", flat, site.add("Mul", label, site.ints(count)))
        flat = site.add("Squeeze", site.add("Add", flat, prior), site.ints(1))
        size = classes * count
        best = _best_of_images(site, confidence, flat, score, images, size, limits.keep_top_k)
        rows = site.add("Compress", rows, best, axis=0)
    return site.add("Reshape", or_nothing_found(site, rows, scores.name), site.ints(1, 1, -1, 7))


def _priors(
    site: Site, layer: DetectionOutput, priors: Value, count: int
) -> tuple[str, str | None]:
    """Prior boxes and variances, (P, 4) each; None if the offsets are scaled already."""
    table = site.reshape(priors, (2, count, 4))
    boxes, variances = site.add_several("Split", table, site.ints(1, 1), outputs=2, axis=0)
    boxes, variances = (site.add("Squeeze", x, site.ints(0)) for x in (boxes, variances))
    return boxes, None if layer.variance_encoded_in_target else variances


def _confidence(
    site: Site, layer: DetectionOutput, scores: Value, first: tuple[Value, ...], count: int
) -> str:
    """Scores (N, C, P), LOWEST for what is no candidate."""
    images, classes, limits = scores.dims[0], layer.num_classes, layer.limits
    values = site.reshape(scores, (images, count, classes))
    if first:
        objects = site.reshape(first[0], (images, count, 2))
        nothing = site.add(
            "Less", site.slice(objects, 2, 1, 2), site.number(layer.objectness_score)
        )
        values = site.add("Where", nothing, site.parts(np.eye(1, classes)), values)
    values = site.add("Transpose", values, perm=[0, 2, 1])
    if 0 <= layer.background_label_id < classes:
        counts = np.arange(classes)[None, :, None] != layer.background_label_id
        values = site.add("Where", site.constant(counts), values, site.number(LOWEST))
    if 0 <= limits.top_k < count:
        values = only_best(site, values, limits.top_k)
    return values


def _boxes(
    site: Site, layer: DetectionOutput, offsets: Value, count: int, base: str, variances: str | None
) -> str:
    """All boxes, (N, P, 4), or (N, C, P, 4) if each class has its own."""
    images, classes = offsets.dims[0], layer.num_classes
    if layer.share_location:
        moves = site.reshape(offsets, (images, count, 4))
    else:
        table = site.reshape(offsets, (images, count, classes, 4))
        moves = site.add("Transpose", table, perm=[0, 2, 1, 3])
    boxes = decoded_boxes(site, moves, base, variances, layer.code_type)
    return site.add("Clip", boxes, site.number(0), site.number(1)) if layer.clip else boxes


def _chosen(
    site: Site, layer: DetectionOutput, boxes: str, scores: str, images: int, count: int
) -> tuple[str, str, str]:
    """Image, label and prior box (K, 1) of what stays after the suppression."""
    limits, classes = layer.limits, layer.num_classes
    least = LOWEST if limits.score is None else limits.score
    if layer.share_location:
        image, label, prior = suppress(site, boxes, scores, limits.threshold, least, count)
        return image, label, prior
    dims = (images, classes, count)
    each = site.reshape(Value(boxes, (*dims, 4)), (images * classes, count, 4))
    alone = site.reshape(Value(scores, dims), (images * classes, 1, count))
    group, _, prior = suppress(site, each, alone, limits.threshold, least, count)
    many = site.ints(classes)
    return site.add("Div", group, many), site.add("Mod", group, many), prior


def _best_of_images(
    site: Site, scores: str, flat: str, score: str, images: int, size: int, keep: int
) -> str:
    """Which detections (K,) are among the best `keep` of their image.

    Args:
        flat: where each lies in a table (N, size) of all classes and prior boxes.
        score: (K,).
    """
    lowest = site.tensor(np.array([LOWEST], np.float32))
    table = site.add("ConstantOfShape", site.add("Shape", scores), value=lowest)
    line = site.add("Reshape", table, site.ints(-1))
    filled = site.add("ScatterElements", line, flat, score, axis=0)
    by_image = site.reshape(Value(filled, (images * size,)), (images, size))
    _, best = site.add_several("TopK", by_image, site.ints(min(keep, size)), outputs=2, axis=1)
    marks = site.add("Reshape", marked(site, by_image, best), site.ints(-1))
    return site.add("Gather", marks, flat)
