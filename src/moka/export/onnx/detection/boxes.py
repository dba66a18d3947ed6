"""Boxes (..., 4) of corners x1, y1, x2, y2 as nodes: decoding, suppression, picking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moka.export.onnx.builder import FLOAT, INT64, Site

LOWEST = float(np.finfo(np.float32).min)  # the score of what is no candidate


def halves(site: Site, x: str) -> tuple[str, str]:
    """The first and the second two of the four values of each row."""
    first, second = site.add_several("Split", x, site.ints(2, 2), outputs=2, axis=-1)
    return first, second


def columns(site: Site, x: str, count: int = 4) -> list[str]:
    """Each value of the rows, (..., 1)."""
    return site.add_several("Split", x, site.ints(*[1] * count), outputs=count, axis=-1)


def box_corners(site: Site, centers: str, sizes: str) -> str:
    """Boxes from centers (..., 2) and sizes (..., 2)."""
    reach = site.add("Mul", sizes, site.number(0.5))
    low, high = site.add("Sub", centers, reach), site.add("Add", centers, reach)
    return site.add("Concat", low, high, axis=-1)


def decoded_boxes(site: Site, offsets: str, priors: str, variances: str | None, code: str) -> str:
    """Boxes that offsets describe relative to prior boxes, as
    `moka.layers.detection.boxes.decode_boxes` says."""
    if variances is not None:
        offsets = site.add("Mul", offsets, variances)
    if code == "CORNER":
        return site.add("Add", priors, offsets)
    first, second = halves(site, priors)
    size = site.add("Sub", second, first)
    if code == "CORNER_SIZE":
        both = site.add("Concat", size, size, axis=-1)
        return site.add("Add", priors, site.add("Mul", offsets, both))
    center = site.add("Mul", site.add("Add", first, second), site.number(0.5))
    move, growth = halves(site, offsets)
    moved = site.add("Add", site.add("Mul", move, size), center)
    return box_corners(site, moved, site.add("Mul", site.add("Exp", growth), size))


def marked(site: Site, like: str, index: str) -> str:
    """A table of the shape of `like`, True at these indices along its last axis."""
    zero, one = (np.array([k], np.float32) for k in (0, 1))
    zeros = site.add("ConstantOfShape", site.add("Shape", like), value=site.tensor(zero))
    ones = site.add("ConstantOfShape", site.add("Shape", index), value=site.tensor(one))
    marks = site.add("ScatterElements", zeros, index, ones, axis=-1)
    return site.add("Greater", marks, site.number(0.5))


def only_best(site: Site, scores: str, count: int) -> str:
    """Scores (..., P) in which all but the best `count` of each row become LOWEST."""
    _, index = site.add_several("TopK", scores, site.ints(count), outputs=2, axis=-1)
    return site.add("Where", marked(site, scores, index), scores, site.number(LOWEST))


def suppress(
    site: Site, boxes: str, scores: str, threshold: float, least: float, at_most: int
) -> list[str]:
    """Indices (K, 1) of batch, class and box of what stays of boxes (N, P, 4) with scores
    (N, C, P) above `least`: by batch, class and falling score.

    ONNX takes corners in any order, Caffe lets a box whose second corner comes first overlap
    nothing; so such a box becomes one without area.
    """
    first, second = halves(site, boxes)
    chosen = site.add(
        "NonMaxSuppression",
        site.add("Concat", first, site.add("Max", first, second), axis=-1),
        scores,
        site.ints(at_most),
        site.parts(np.array([min(threshold, 1.0)])),
        site.parts(np.array([least])),
    )
    return site.add_several("Split", chosen, site.ints(1, 1, 1), outputs=3, axis=1)


def pick(site: Site, table: str, index: Sequence[str]) -> str:
    """Rows (K, ...) of a table at indices (K, 1) along its first axes."""
    return site.add("GatherND", table, site.add("Concat", *index, axis=1))


def rows_at(site: Site, boxes: str, order: str) -> str:
    """Boxes (N, P, 4) in another order (N, K)."""
    column = site.add("Unsqueeze", order, site.ints(2))
    return site.add("GatherElements", boxes, site.add("Tile", column, site.ints(1, 1, 4)), axis=1)


def or_nothing_found(site: Site, rows: str, like: str) -> str:
    """Detections (K, 7); if there are none, a row for each image of `like` (N, ...): its index,
    then -1 six times."""
    images = site.slice(site.add("Shape", like), 0, 0, 1)
    index = site.add(
        "Range",
        site.constant(np.array(0, np.int64)),
        site.add("Squeeze", images, site.ints(0)),
        site.constant(np.array(1, np.int64)),
    )
    column = as_float(site, site.add("Unsqueeze", index, site.ints(1)))
    return or_else(site, rows, site.pad(column, [0, 0], [0, 6], -1))


def or_else(site: Site, rows: str, others: str) -> str:
    """The rows, or other ones if there are none."""
    start = site.ints(0)
    found, more = (site.slice(site.add("Shape", x), 0, 0, 1) for x in (rows, others))
    count = site.add("Where", site.add("Equal", found, start), more, found)
    both = site.add("Concat", rows, others, axis=0)
    return site.add("Slice", both, start, count, start)


def as_float(site: Site, x: str) -> str:
    return site.add("Cast", x, to=FLOAT)


def as_index(site: Site, x: str) -> str:
    return site.add("Cast", x, to=INT64)
