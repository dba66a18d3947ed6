"""Compares detections with true boxes; average precision is computed from the result."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.detection.boxes import overlap
from moka.layers.detection.sizes import all_there, image_to_pixels, read_name_sizes
from moka.layers.options import classes, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.schema import caffe_pb2
from moka.types import Shape


class _Found(NamedTuple):
    """Detections (K, ...) or true boxes: image, label, corners, and score or difficult."""

    image: Tensor
    label: Tensor
    boxes: Tensor
    value: Tensor

    def of(self, chosen: Tensor) -> _Found:
        return _Found(*(values[chosen] for values in self))


@layer(
    "DetectionEvaluate",
    bottoms=(2, 3),
    tops=1,
    fork="SSD",
    differentiable=False,
    shapes_from_data=True,
    on_host=True,
)
class DetectionEvaluate(Layer):
    """Detections compared with true boxes.

    Going through the detections of a class in an image, the highest score first: one whose largest
    overlap with a true box of its class reaches overlap_threshold is right, unless a better one
    was matched with that box; without evaluate_difficult_gt one matched with a difficult box
    counts neither way. Others are wrong.

    Bottoms, SSD: detections (1, 1, K, 7), rows of image, label, score, x1, y1, x2, y2 as fractions,
    label -1 for none; true boxes (1, 1, G, 8), rows of image (-1: the last), label, instance, x1,
    y1, x2, y2, difficult. Cascade R-CNN: detections (K, 7), rows of image, x1, y1, x2, y2 in
    pixels, label (-1 for none), score; true boxes (G, 8), rows of image (-1 for none), x1, y1, x2,
    y2, label, ignored, difficult; and the height and width (N, 2) of the net's images. Top: rows
    of five, (1, 1, R, 5) or for Cascade R-CNN (R, 5, 1, 1): first -1, label, number of true boxes,
    -1, -1 for each class but the background; then image, label, score, 1 or 0 for right, 1 or 0
    for wrong for each detection. No gradient.

    Message: detection_evaluate_param. With name_size_file (a name, a height and a width on each
    line; Cascade R-CNN needs it) boxes are compared in pixels of the original images, which come
    in the order of the file; resize_param says how they were resized. Without the file itself they
    are compared as they come, and the log says so.

    Errors: a detection or true box of the background; more images than name_size_file lists.
    """

    num_classes: int = option(classes, required=True)
    background_label_id: int = option()
    overlap_threshold: float = option(positive)
    evaluate_difficult_gt: bool = option()
    name_size_file: str | None = option()
    resize_param: caffe_pb2.ResizeParameter = option()

    def setup(self, *bottom_shapes: Shape) -> None:
        self.in_pixels = len(bottom_shapes) == 3  # Cascade R-CNN's form
        if self.in_pixels and not self.name_size_file:
            raise NetError("with sizes of images as third bottom, name_size_file is needed.")
        given = self.config.detection_evaluate_param.HasField("resize_param")
        self.resize = self.resize_param if given else None
        self.labels = [c for c in range(self.num_classes) if c != self.background_label_id]
        self._seen = 0

    @cached_property
    def sizes(self) -> list[tuple[str, int, int]]:
        """Name, height and width of the original images, read in the first pass; may be empty."""
        path = self.name_size_file
        if not path or not all_there(path, without="boxes are compared without images' sizes"):
            return []
        return read_name_sizes(path)

    def top_shapes(self, found: Shape, truth: Shape, *sizes: Shape) -> list[Shape]:
        rows = len(self.labels)
        if self.in_pixels:
            for shape, width in ((found, 7), (truth, 8), (sizes[0], 2)):
                if len(shape) < 2 or shape[1] != width:
                    raise NetError(f"needs rows of {width}, got shape {shape_text(shape)}.")
            return [(rows, 5, 1, 1)]
        for shape, width in ((found, 7), (truth, 8)):
            if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != width:
                raise NetError(f"needs a blob 1 1 K {width}, got shape {shape_text(shape)}.")
        return [(1, 1, rows, 5)]

    def forward(self, found: Tensor, truth: Tensor, *sizes: Tensor) -> Tensor:
        hits, true = self._read(found.detach(), truth.detach())
        counted = true.value == 0
        if self.evaluate_difficult_gt:
            counted = torch.ones_like(counted)
        rows = [
            [-1, label, float((counted & (true.label == label)).sum()), -1, -1]
            for label in self.labels
        ]
        for image in torch.unique(hits.image).tolist():
            mine, boxes = hits.of(hits.image == image), true.of(true.image == image)
            if len(boxes.image):
                mine, boxes = self._to_pixels(mine, boxes, sizes)
            for label in torch.unique(mine.label).tolist():
                if label != -1:
                    rows += self._judged(mine.of(mine.label == label), boxes)
            self._seen += 1
        made = found.new_tensor(rows).view(-1, 5)
        return made[..., None, None] if self.in_pixels else made[None, None]

    def _read(self, found: Tensor, truth: Tensor) -> tuple[_Found, _Found]:
        found, truth = found.reshape(-1, 7), truth.reshape(-1, 8)
        if self.in_pixels:
            found, truth = found[found[:, 0] != -1], truth[truth[:, 0] != -1]
            hits = _Found(found[:, 0].long(), found[:, 5].long(), found[:, 1:5], found[:, 6])
            true = _Found(truth[:, 0].long(), truth[:, 5].long(), truth[:, 1:5], truth[:, 7])
        else:
            found = found[found[:, 0] != -1]
            ends = (truth[:, 0] == -1).nonzero()
            truth = truth[: int(ends[0])] if len(ends) else truth
            hits = _Found(found[:, 0].long(), found[:, 1].long(), found[:, 3:], found[:, 2])
            true = _Found(truth[:, 0].long(), truth[:, 1].long(), truth[:, 3:7], truth[:, 7])
        for name, labels in (("detection results", hits.label), ("dataset", true.label)):
            if (labels == self.background_label_id).any():
                raise DataError(f"Found background label in the {name}.")
        return hits, true

    def _to_pixels(
        self, hits: _Found, true: _Found, sizes: tuple[Tensor, ...]
    ) -> tuple[_Found, _Found]:
        """Boxes of one image in pixels of the original, if its size is known."""
        if not self.sizes:
            return hits, true
        _, height, width = self.sizes[self._seen % len(self.sizes)]
        if not sizes:
            moved = (image_to_pixels(b.boxes, height, width, self.resize) for b in (hits, true))
        else:
            net_height, net_width = sizes[0].reshape(-1, 2)[int(hits.image[0])].tolist()
            scale = hits.boxes.new_tensor([width / net_width, height / net_height] * 2)
            moved = (b.boxes * scale for b in (hits, true))
        return hits._replace(boxes=next(moved)), true._replace(boxes=next(moved))

    def _judged(self, hits: _Found, true: _Found) -> list[list[float]]:
        """Rows for the detections of one class in one image."""
        image, label = int(hits.image[0]), int(hits.label[0])
        true = true.of(true.label == label)
        if not len(true.label):
            return [[image, label, score, 0, 1] for score in hits.value.tolist()]
        hits = hits.of(hits.value.argsort(descending=True, stable=True))
        most, nearest = overlap(
            hits.boxes, true.boxes, extra=int(self.in_pixels or bool(self.sizes))
        ).max(1)
        rows: list[list[float]] = []
        taken: set[int] = set()
        for score, shared, index in zip(
            hits.value.tolist(), most.tolist(), nearest.tolist(), strict=True
        ):
            right, wrong = 0, 1
            if shared >= self.overlap_threshold:
                if not self.evaluate_difficult_gt and true.value[index] != 0:
                    right, wrong = 0, 0
                elif index not in taken:
                    right, wrong = 1, 0
                    taken.add(index)
            rows.append([image, label, score, right, wrong])
        return rows
