"""YOLO's grid: each cell of a score map holds the box of each anchor, its objectness and classes.

The channels of a map are anchors x (4 + 1 + classes): x, y, w, h, objectness, class scores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.detection.boxes import corners
from moka.layers.detection.nms import kept_of
from moka.layers.shapes import shape_text
from moka.types import Shape

VALUES = 5  # of a box before its classes: x, y, w, h, objectness
DEFAULT_SIZE = 0.5  # of anchors without biases, in cells


class Cells(NamedTuple):
    """The parts of a map, each (N, A, H, W) or (N, A, H, W, n).

    Attributes:
        center: x and y before the sigmoid, (..., 2).
        size: w and h before the exponential, (..., 2).
        objectness: before the sigmoid, (...).
        classes: scores, (..., C).
    """

    center: Tensor
    size: Tensor
    objectness: Tensor
    classes: Tensor


def check_map(x: Shape, anchors: int, classes: int, values: int = VALUES) -> None:
    """Raises NetError unless x is N x anchors (values + classes) x H x W."""
    wanted = anchors * (values + classes)
    if len(x) != 4 or x[1] != wanted:
        raise NetError(
            f"{anchors} anchors and {classes} classes need a bottom of {wanted} channels"
            f" ({anchors} x ({values} + {classes})), got shape {shape_text(x)}."
        )


def anchor_sizes(biases: tuple[float, ...], count: int | None = None) -> list[tuple[float, float]]:
    """Width and height of anchors from `biases`, w0, h0, w1, h1 ...

    Args:
        count: so many, the first ones, and without biases all half a cell, as in darknet; None:
            all.

    Raises:
        NetError: too few values, or no pairs.
    """
    if count is not None and not biases:
        return [(DEFAULT_SIZE, DEFAULT_SIZE)] * count
    if len(biases) % 2 or (count is not None and len(biases) < 2 * count):
        wanted = "an even number of values" if count is None else f"{2 * count} values"
        raise NetError(
            f"biases are a width and a height for each anchor, {wanted}; got {len(biases)}."
        )
    return list(zip(biases[::2], biases[1::2], strict=True))[:count]


def masked(anchors: list[tuple[float, float]], mask: tuple[int, ...]) -> list[tuple[float, float]]:
    """The anchors that a mask names.

    Raises:
        NetError: there is no such anchor.
    """
    for k in mask:
        if k >= len(anchors):
            raise NetError(f"mask {k} has no anchor: biases hold {len(anchors)}.")
    return [anchors[k] for k in mask]


def split(x: Tensor, anchors: int) -> Cells:
    """The parts of a map (N, A (5 + C), H, W)."""
    n, channels, h, w = x.shape
    parts = x.reshape(n, anchors, channels // anchors, h, w).movedim(2, -1)
    return Cells(parts[..., :2], parts[..., 2:4], parts[..., 4], parts[..., 5:])


def joined(cells: Cells) -> Tensor:
    """The map (N, A (5 + C), H, W) of its parts; undoes `split`."""
    parts = torch.cat([cells.center, cells.size, cells.objectness[..., None], cells.classes], -1)
    return parts.movedim(-1, 2).flatten(1, 2)


def placed(cells: Cells, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Centers and sizes (N, A, H, W, 2) of the boxes, as fractions of the image.

    Center: the cell's column plus sigmoid(x), divided by the columns; rows likewise.
    Size: the anchor's times exp(w) and exp(h).

    Args:
        anchors: (A, 2), width and height as fractions of the image.
    """
    _, _, h, w = cells.objectness.shape
    row, column = (torch.arange(size, device=anchors.device) for size in (h, w))
    cell = torch.stack([column.expand(h, w), row[:, None].expand(h, w)], -1)
    center = (cell + cells.center.sigmoid()) / anchors.new_tensor([w, h])
    return center, cells.size.exp() * anchors[:, None, None]


def best_rows(boxes: Tensor, label: Tensor, score: Tensor, threshold: float, image: int) -> Tensor:
    """Detections (K, 7) of an image: image, label, score, x1, y1, x2, y2, by falling score.

    A box goes out if it overlaps a better one, of whatever class, by the threshold or more.

    Args:
        boxes: corners (M, 4).
        label, score: (M,).
    """
    order = score.argsort(descending=True, stable=True)
    order = order[kept_of(boxes[order], just_below(threshold))]
    head = torch.stack([torch.full_like(score, image), label.to(score), score], 1)
    return torch.cat([head, boxes], 1)[order]


def just_below(threshold: float) -> float:
    """The float before a threshold: above it means at the threshold or above."""
    return float(np.nextafter(np.float32(threshold), np.float32(-1)))


def corner_boxes(center: Tensor, size: Tensor) -> Tensor:
    """Corners (M, 4) of boxes given in any shape (..., 2)."""
    return corners(center, size).reshape(-1, 4)
