"""The layers at YOLO's end: from score maps to one list of boxes for all images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection import grid
from moka.layers.detection.detect import ROW, nothing_found
from moka.layers.options import Check, not_negative, option, positive
from moka.layers.registry import layer
from moka.types import Shape

four = Check(lambda v: v == 4, "4")


def top_of_rows(found: Sequence[Tensor], like: Tensor) -> Tensor:
    """The top (1, 1, K, 7) from the rows of each image; see `nothing_found` if there are none."""
    rows = torch.cat(list(found)) if found else like.new_zeros(0, ROW)
    return (rows if len(rows) else nothing_found(like)).view(1, 1, -1, ROW)


def check_same_batch(maps: Sequence[Shape]) -> None:
    """Raises NetError unless maps are of as many images."""
    for x in maps:
        if x[0] != maps[0][0]:
            raise NetError(f"maps are of different batches: {maps[0][0]} and {x[0]} images.")


def announced(x: Shape) -> list[Shape]:
    """The shape of the top before anything is known."""
    return [(1, 1, min(1, x[0]), ROW)]


def yolo_rows(
    maps: Sequence[Tensor],
    anchors: Sequence[tuple[float, float]],
    confidence: float,
    overlap: float,
) -> Tensor:
    """YOLOv2's detections (1, 1, K, 7) from maps (N, A (5 + C), H, W).

    Args:
        anchors: width and height in cells, the same for all maps.
        confidence: a detection has this score or more.
        overlap: see `grid.best_rows`.
    """
    boxes, labels, scores = (
        torch.cat(parts, 1)
        for parts in zip(*(_yolo_candidates(x, anchors) for x in maps), strict=True)
    )
    found = [
        grid.best_rows(boxes[k][good], labels[k][good], scores[k][good], overlap, k)
        for k, good in enumerate(scores >= confidence)
    ]
    return top_of_rows(found, maps[0])


def _yolo_candidates(
    x: Tensor, anchors: Sequence[tuple[float, float]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Corners (N, M, 4), labels and scores (N, M) of all boxes of a map."""
    _, _, h, w = x.shape
    cells = grid.split(x, len(anchors))
    center, size = grid.placed(cells, x.new_tensor(anchors) / x.new_tensor([w, h]))
    probability, label = cells.classes.softmax(-1).max(-1)
    score = (cells.objectness.sigmoid() * probability).flatten(1)
    return grid.corner_boxes(center, size).view(*score.shape, 4), label.flatten(1) + 1, score


@layer(
    "YoloDetectionOutput",
    bottoms=(1, 2),
    tops=1,
    fork="YOLO on Caffe",
    differentiable=False,
    shapes_from_data=True,
)
class YoloDetectionOutput(Layer):
    """Detections of YOLOv2 from its last score map, or from two of different scales.

    The box of an anchor in a cell: center (column + sigmoid(x)) / W, (row + sigmoid(y)) / H; size
    anchor width exp(w) / W, anchor height exp(h) / H. Its class is the most probable one of a
    softmax; its score is that probability times sigmoid(objectness). Boxes of confidence_threshold
    or more count; a box goes out if it overlaps a better one, of whatever class, by nms_threshold
    or more.

    Bottoms: one or two maps (N, num_box (5 + num_classes), H, W), channels x, y, w, h, objectness,
    classes for each anchor. Top: (1, 1, K, 7), rows of image, label (from 1 on), score and corners
    x1, y1, x2, y2 as fractions of the image (not clipped), by image and falling score. If nothing
    is found at all, one row for each image: its index, then -1 six times. No gradient. Message:
    yolo_detection_output_param; `biases` are width and height of each anchor in cells, 0.5 if there
    are none; `side` and `label_map_file` change nothing here. Redmon and Farhadi, 2016 (YOLO9000).
    From MobileNet-YOLO, which takes one image only.

    Errors: another number of channels; too few biases; coords other than 4.
    """

    num_classes: int = option(positive)
    num_box: int = option(positive)
    coords: int = option(four)
    confidence_threshold: float = option()
    nms_threshold: float = option(not_negative)
    biases: tuple[float, ...] = option(positive)
    side: int = option()
    label_map_file: str | None = option()

    def setup(self, *maps: Shape) -> None:
        self.anchors = grid.anchor_sizes(self.biases, self.num_box)

    def top_shapes(self, *maps: Shape) -> list[Shape]:
        for x in maps:
            grid.check_map(x, self.num_box, self.num_classes)
        check_same_batch(maps)
        return announced(maps[0])

    def forward(self, *maps: Tensor) -> Tensor:
        with torch.no_grad():
            return yolo_rows(maps, self.anchors, self.confidence_threshold, self.nms_threshold)


@layer(
    "Yolov3DetectionOutput",
    bottoms=(1, None),
    tops=1,
    fork="YOLO on Caffe",
    differentiable=False,
    shapes_from_data=True,
)
class Yolov3DetectionOutput(Layer):
    """Detections of YOLOv3 from the score maps of several scales.

    The box of an anchor in a cell: center (column + sigmoid(x)) / W, (row + sigmoid(y)) / H; size
    anchor width exp(w) / (W anchors_scale), anchor height exp(h) / (H anchors_scale). Each class
    has the score sigmoid(class) sigmoid(objectness); all above confidence_threshold count. A box
    goes out if it overlaps a better one, of whatever class or scale, by nms_threshold or more.

    Bottoms: maps (N, num_box (5 + num_classes), H, W), one for each scale, channels x, y, w, h,
    objectness, classes for each anchor. With gaussian_box a map has 9 + num_classes channels for an
    anchor: x, y, w and h are each followed by its deviation before the sigmoid; a score is
    then multiplied by 1 minus the mean of the four deviations. Top: (1, 1, K, 7), rows of image,
    label (from 1 on), score and corners x1, y1, x2, y2 as fractions of the image (not clipped), by
    image and falling score. If nothing is found at all, one row for each image: its index, then -1
    six times. No gradient. Message: yolov3_detection_output_param. `biases` are width and height of
    each anchor in pixels of the image; each scale has an equal part of `mask`, whose first num_box
    values say which anchors are its own; `anchors_scale` says how many pixels a cell is wide, once
    for each scale; `mask_group_num` is the number of scales. Redmon and Farhadi, 2018; Choi et al.,
    2019 (Gaussian YOLOv3). From MobileNet-YOLO, which says image 0 in every row.

    Errors: another number of channels or bottoms; too few masks or scales; a mask without an
    anchor.
    """

    num_classes: int = option(positive)
    num_box: int = option(positive)
    confidence_threshold: float = option()
    nms_threshold: float = option(not_negative)
    biases: tuple[float, ...] = option(positive)
    anchors_scale: tuple[int, ...] = option(positive)
    mask_group_num: int = option(positive)
    mask: tuple[int, ...] = option()
    gaussian_box: bool = option()

    def setup(self, *maps: Shape) -> None:
        count = len(maps)
        if self.mask_group_num != count or len(self.anchors_scale) < count:
            raise NetError(
                f"mask_group_num and the number of anchors_scale must be {count}, the number of"
                f" bottoms; got {self.mask_group_num} and {len(self.anchors_scale)}."
            )
        each = len(self.mask) // count
        if each < self.num_box:
            raise NetError(
                f"mask needs {self.num_box} values for each of {count} bottoms, got"
                f" {len(self.mask)}."
            )
        anchors = grid.anchor_sizes(self.biases)
        starts = range(0, each * count, each)
        self.anchors = [
            grid.masked(anchors, self.mask[start : start + self.num_box]) for start in starts
        ]

    def top_shapes(self, *maps: Shape) -> list[Shape]:
        for x in maps:
            grid.check_map(x, self.num_box, self.num_classes, 9 if self.gaussian_box else 5)
        check_same_batch(maps)
        return announced(maps[0])

    def forward(self, *maps: Tensor) -> Tensor:
        with torch.no_grad():
            scales = [self._candidates(k, x) for k, x in enumerate(maps)]
            found = []
            for image in range(len(maps[0])):
                parts = [
                    (boxes[image][where], label + 1, score[image][where, label])
                    for boxes, score in scales
                    for where, label in [(score[image] > self.confidence_threshold).nonzero().T]
                ]
                boxes, labels, scores = (torch.cat(part) for part in zip(*parts, strict=True))
                found.append(grid.best_rows(boxes, labels, scores, self.nms_threshold, image))
            return top_of_rows(found, maps[0])

    def _candidates(self, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Corners (N, M, 4) and scores (N, M, C) of the boxes of scale k, cell by cell."""
        n, _, h, w = x.shape
        certain = x.new_ones(())
        if self.gaussian_box:
            values = x.reshape(n, self.num_box, 9 + self.num_classes, h, w)
            certain = 1 - values[:, :, 1:8:2].sigmoid().mean(2)
            x = torch.cat([values[:, :, 0:8:2], values[:, :, 8:]], 2).flatten(1, 2)
        cells = grid.split(x, self.num_box)
        pixels = x.new_tensor([w, h]) * self.anchors_scale[k]
        center, size = grid.placed(cells, x.new_tensor(self.anchors[k]) / pixels)
        score = cells.classes.sigmoid() * (cells.objectness.sigmoid() * certain)[..., None]
        in_order = (part.movedim(1, 3) for part in (center, size, score))  # anchors last
        center, size, score = (part.flatten(1, 3) for part in in_order)
        return torch.cat([center - size / 2, center + size / 2], -1), score
