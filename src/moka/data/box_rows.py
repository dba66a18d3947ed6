"""The boxes of an image as rows of numbers, and what is left of them when the image is cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moka.schema import caffe_pb2
from moka.types import Floats

# A row: label, instance, x1, y1, x2, y2, difficult. Corners are parts of the image's size.
COLUMNS = 7
CORNERS = slice(2, 6)
YOLO_BOXES = 300  # rows for each image in MobileNet-YOLO's table


def shared_areas(one: Floats, other: Floats, extra: int = 0) -> Floats:
    """The areas that boxes (..., 4) share with others (..., 4).

    Args:
        extra: 1 for boxes in pixels whose second corner is part of the box, else 0.
    """
    sides = np.minimum(other[..., 2:], one[..., 2:]) - np.maximum(other[..., :2], one[..., :2])
    return (sides + extra).clip(0).prod(-1)


def areas(boxes: Floats, extra: int = 0) -> Floats:
    """The areas of boxes (..., 4), see `shared_areas`; 0 where a side is negative."""
    return (boxes[..., 2:] - boxes[..., :2] + extra).clip(0).prod(-1)


def cut_rows(rows: Floats, part: Floats, constraint: caffe_pb2.EmitConstraint | None) -> Floats:
    """The rows that a part of the image keeps, with corners as parts of that part.

    Args:
        rows: (G, 7).
        part: x1, y1, x2, y2 as parts of the image; it may reach beyond the image.
        constraint: which boxes are kept; None: those that reach into the part.
    """
    rows = rows[_emitted(rows[:, CORNERS], part, constraint)]
    size = part[2:] - part[:2]
    moved = rows.copy()
    moved[:, CORNERS] = ((rows[:, CORNERS] - np.tile(part[:2], 2)) / np.tile(size, 2)).clip(0, 1)
    return moved[(moved[:, 4] > moved[:, 2]) & (moved[:, 5] > moved[:, 3])]


def _emitted(
    boxes: Floats, part: Floats, constraint: caffe_pb2.EmitConstraint | None
) -> NDArray[np.bool_]:
    """Which boxes the constraint keeps."""
    if constraint is None:
        return np.ones(len(boxes), np.bool_)
    if constraint.emit_type == caffe_pb2.EmitConstraint.CENTER:
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside: NDArray[np.bool_] = np.logical_and.reduce(
            (center >= part[:2]) & (center <= part[2:]), axis=1
        )
        return inside
    more: NDArray[np.bool_] = shared_areas(part, boxes) > constraint.emit_overlap * areas(boxes)
    return more


def mirror_corners(boxes: Floats, width: float = 1) -> Floats:
    """Corners (G, 4) in an image of this width, mirrored left to right."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], 1)


def mirror_rows(rows: Floats) -> Floats:
    """The rows of the image mirrored left to right."""
    mirrored = rows.copy()
    mirrored[:, CORNERS] = mirror_corners(rows[:, CORNERS])
    return mirrored


def ssd_table(images: Sequence[Floats]) -> Floats:
    """The rows of a batch as SSD's layers take them, (1, 1, G, 8): the number of the image, then
    its row. A batch without boxes has a row of -1."""
    rows = [np.insert(each, 0, item, axis=1) for item, each in enumerate(images)]
    table = np.concatenate(rows).astype(np.float32, copy=False)
    return (table if len(table) else np.full((1, COLUMNS + 1), -1, np.float32))[None, None]


def yolo_table(images: Sequence[Floats]) -> Floats:
    """The rows of a batch as MobileNet-YOLO's layers take them, (N, 1, 300, 5): label less 1, then
    center x, center y, width and height. Zeros follow the last box of an image; boxes beyond 300
    are left out."""
    table = np.zeros((len(images), 1, YOLO_BOXES, 5), np.float32)
    for target, rows in zip(table[:, 0], images, strict=True):
        kept = rows[:YOLO_BOXES]
        target[: len(kept), 0] = kept[:, 0] - 1
        target[: len(kept), 1:3] = (kept[:, 2:4] + kept[:, 4:6]) / 2
        target[: len(kept), 3:] = kept[:, 4:6] - kept[:, 2:4]
    return table
