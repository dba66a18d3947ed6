"""True boxes as YOLO's data layers give them, and how its losses use them."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.detection.boxes import corners, overlap
from moka.layers.detection.truth import ROW
from moka.layers.labels import class_labels
from moka.layers.shapes import shape_text
from moka.types import Shape

NUMBERS = 5  # label, x, y, w, h


class Objects(NamedTuple):
    """The true boxes of a batch, image by image.

    Attributes:
        image, label: (G,), int64; labels from 0 on.
        center, size: (G, 2), as fractions of the image.
    """

    image: Tensor
    label: Tensor
    center: Tensor
    size: Tensor

    @property
    def boxes(self) -> Tensor:
        """Corners (G, 4)."""
        return corners(self.center, self.size)


def check_objects(labels: Shape, items: int) -> None:
    """Raises NetError unless a blob holds boxes for so many images."""
    if _is_ssd(labels):
        return
    if labels[:1] != (items,) or prod(labels[1:]) % NUMBERS:
        raise NetError(
            f"true boxes are 5 numbers each (label, x, y, w, h) for each of {items} images, or a"
            f" blob 1 1 G 8 as SSD's, got shape {shape_text(labels)}."
        )


def read_objects(labels: Tensor, classes: int, items: int) -> Objects:
    """The true boxes of a blob; those without an area are left out.

    Args:
        labels: (N, 5 T) of label, x, y, w, h; the first with x = 0 or w = 0 ends an image. Or SSD's
            (1, 1, G, 8) of image, label from 1 on, instance, x1, y1, x2, y2, difficult; rows of
            image -1 are none.
        items: how many images there are.

    Raises:
        DataError: a label that is no class; an image that isn't there; numbers that are not finite.
    """
    labels = labels.detach()
    if _is_ssd(tuple(labels.shape)):
        rows = labels.reshape(-1, ROW)
        rows = rows[rows[:, 0] >= 0]
        rows = rows[rows[:, 0].argsort(stable=True)]
        image, label = rows[:, 0].long(), rows[:, 1] - 1
        if len(image) and image[-1] >= items:
            raise DataError(f"a true box belongs to image {int(image[-1])} of {items}, from 0 on.")
        first, second = rows[:, 3:5], rows[:, 5:7]
        center, size = (first + second) / 2, second - first
    else:
        table = labels.reshape(len(labels), prod(labels.shape[1:]) // NUMBERS, NUMBERS)
        given = ((table[..., 1] != 0) & (table[..., 3] != 0)).long().cumprod(1).bool()
        image = given.nonzero()[:, 0]
        rows = table[given]
        label, center, size = rows[:, 0], rows[:, 1:3], rows[:, 3:5]
    if not (center.isfinite() & size.isfinite()).all():
        raise DataError("a true box has a number that is not finite.")
    real = (size > 0).all(1)
    index = class_labels(label[real], classes, None)[0]
    return Objects(image[real], index, center[real], size[real])


def _is_ssd(labels: Shape) -> bool:
    return len(labels) == 4 and labels[:2] == (1, 1) and labels[3] == ROW


def cells_of(objects: Objects, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row and column (G,) of the cell in which the center of each box lies."""
    place = (objects.center * objects.center.new_tensor([width, height])).long()
    return place[:, 1].clamp(0, height - 1), place[:, 0].clamp(0, width - 1)


def largest_overlap(boxes: Tensor, objects: Objects) -> Tensor:
    """The largest overlap (N, ...) of each box (N, ..., 4) with a true box of its image, or 0."""
    best = boxes.new_zeros(boxes.shape[:-1])
    for image in range(len(boxes)):
        mine = objects.boxes[objects.image == image]
        if len(mine):
            shared = overlap(boxes[image].reshape(-1, 4), mine)
            best[image] = shared.amax(1).view(best.shape[1:])
    return best


def shape_overlap(sizes: Tensor, others: Tensor) -> Tensor:
    """Overlap (...) of boxes of these sizes (..., 2) with a common center."""
    shared = torch.minimum(sizes, others).prod(-1)
    return shared / (sizes.prod(-1) + others.prod(-1) - shared)


def last_of(key: Tensor, size: int) -> Tensor:
    """A mask (K,) of the keys (K,), from [0, size), that are the last with their value."""
    order = torch.arange(len(key), device=key.device)
    last = order.new_full((size,), -1).scatter_reduce(0, key, order, "amax")
    return last[key] == order


def flat_index(place: tuple[Tensor, ...], shape: Shape) -> Tensor:
    """Indices (K,) into the flattened array of this shape."""
    flat = torch.zeros_like(place[0])
    for index, size in zip(place, shape, strict=True):
        flat = flat * size + index
    return flat
