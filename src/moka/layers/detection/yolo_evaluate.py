"""YOLO's test layer: which detections are right, for mean average precision."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection import grid
from moka.layers.detection.boxes import overlap
from moka.layers.detection.nms import kept_of
from moka.layers.detection.objects import check_objects, last_of, read_objects
from moka.layers.detection.yolo_first import FirstMap, check_first_map, read_first_truth
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape

LEAST_SCORE = 0.005  # of a detection that YOLOv2's suppression leaves


class _Truth(NamedTuple):
    """True boxes of one image: corners (G, 4), labels (G,), which are difficult (G,)."""

    boxes: Tensor
    label: Tensor
    difficult: Tensor


@layer(
    "EvalDetection",
    bottoms=(2, 3),
    tops=1,
    fork="YOLO on Caffe",
    fixed_bottoms=(1, 2),
    differentiable=False,
)
class EvalDetection(Layer):
    """Compare detections with true boxes: for each its label, score, and whether it is right.

    YOLOv2: boxes and class probabilities are those of YoloDetectionOutput, but each box counts with
    its most probable class. YOLOv1 (no `biases`, and another shape of map): the bottom holds, for
    each of side x side cells, num_class scores, num_object confidences and num_object boxes x, y,
    w, h, each number as a map of its own; with `constriant` x and y are offsets within the cell, in
    cells; with `sqrt` w and h are square roots. score_type: OBJ the objectness, PROB the class's
    probability, MULTIPLY both. nms >= 0: a box goes out if it overlaps a better one, of whatever
    class, by nms or more (YOLOv2: then also if its score is below 0.005).

    A detection is right if the true box of its class that it overlaps most it overlaps by threshold
    or more and no better detection has it. One that has a difficult box is neither right nor wrong.

    Bottoms: the map, (N, num_object (5 + num_class), side, side) or, YOLOv1, (N, side side
    (num_class + 5 num_object)); true boxes as in RegionLoss or, YOLOv1, (N, 7 side side) as in
    DetectionLoss; optionally the images, which change nothing (Intel). Top: (N, num_class + 4 side
    side num_object): how many true boxes each class has (without difficult ones); then a row of
    label, score, right, wrong for each detection, by label and falling score; then zeros. No
    gradient. Message: eval_detection_param. From caffe-yolo and caffe-yolov2.

    Errors: shapes that do not fit; too few biases; a label outside the classes.
    """

    side: int = option(positive)
    num_class: int = option(positive)
    num_object: int = option(positive)
    threshold: float = option()
    sqrt: bool = option()
    constriant: bool = option()
    score_type: str = option()
    nms: float = option()
    biases: tuple[float, ...] = option(positive)

    def setup(self, x: Shape, labels: Shape, *images: Shape) -> None:
        channels = self.num_object * (grid.VALUES + self.num_class)
        second = self.biases or (len(x) == 4 and x[1] == channels and prod(x[2:]) == self.side**2)
        self.anchors = grid.anchor_sizes(self.biases, self.num_object) if second else None

    def top_shapes(self, x: Shape, labels: Shape, *images: Shape) -> list[Shape]:
        if self.anchors is None:
            check_first_map(x, labels, self.side, self.num_class, self.num_object)
        else:
            grid.check_map(x, self.num_object, self.num_class)
            check_objects(labels, x[0])
            if prod(x[2:]) != self.side**2:
                raise NetError(f"side {self.side} does not fit a map of shape {shape_text(x)}.")
        return [(x[0], self.num_class + 4 * self.side**2 * self.num_object)]

    def forward(self, x: Tensor, labels: Tensor, *images: Tensor) -> Tensor:
        with torch.no_grad():
            boxes, objectness, probability, label = self._candidates(x)
            truth = self._truth(labels, len(x))
            score = {"OBJ": objectness, "PROB": probability}.get(
                self.score_type, objectness * probability
            )
            top = x.new_zeros(self.top_shapes(tuple(x.shape), tuple(labels.shape))[0])
            for image, true in enumerate(truth):
                counted = true.label[~true.difficult]
                top[image, : self.num_class] = torch.bincount(counted, minlength=self.num_class)
                rows = self._judged(boxes[image], score[image], label[image], true)
                top[image, self.num_class : self.num_class + rows.numel()] = rows.flatten()
            return top

    def _candidates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Corners (N, M, 4), objectness, probability and label (N, M) of the boxes, by cell."""
        if self.anchors is None:
            first = FirstMap.of(x, self.side, self.num_class, self.num_object)
            probability, label = first.classes.max(-1)
            corners = first.corners(in_cells=self.constriant, roots=self.sqrt)
            values = (first.confidence, *(v[..., None].expand_as(first.confidence)
                                          for v in (probability, label)))  # fmt: skip
        else:
            _, _, h, w = x.shape
            cells = grid.split(x, self.num_object)
            anchors = x.new_tensor(self.anchors) / x.new_tensor([w, h])
            center, size = grid.placed(cells, anchors)
            corners = torch.cat([center - size / 2, center + size / 2], -1).movedim(1, 3)
            best = cells.classes.softmax(-1).max(-1)
            values = tuple(v.movedim(1, 3) for v in (cells.objectness.sigmoid(), *best))
        objectness, probability, label = (v.flatten(1) for v in values)
        return corners.flatten(1, -2), objectness, probability, label

    def _truth(self, labels: Tensor, items: int) -> list[_Truth]:
        if self.anchors is None:
            return [_Truth(*image) for image in read_first_truth(labels, self.side, self.num_class)]
        objects = read_objects(labels, self.num_class, items)
        easy = torch.zeros_like(objects.label, dtype=torch.bool)
        values = (objects.boxes, objects.label, easy)
        return [_Truth(*(v[objects.image == k] for v in values)) for k in range(items)]

    def _judged(self, boxes: Tensor, score: Tensor, label: Tensor, true: _Truth) -> Tensor:
        """Rows (K, 4) of label, score, right, wrong."""
        order = score.argsort(descending=True, stable=True)
        if self.nms >= 0:
            order = order[kept_of(boxes[order], grid.just_below(self.nms))]
            if self.anchors is not None:
                order = order[score[order] >= LEAST_SCORE]
        order = order[label[order].argsort(stable=True)]
        boxes, score, label = boxes[order], score[order], label[order]
        right = torch.zeros_like(score, dtype=torch.bool)
        wrong = ~right
        if len(true.label) and len(label):
            shared = overlap(boxes, true.boxes)
            shared = shared.where(label[:, None] == true.label, -1)
            most, which = shared.max(1)
            hit = (most >= self.threshold) & (most >= 0)
            key = which.where(hit, len(true.label)).flip(0)
            right = hit & last_of(key, len(true.label) + 1).flip(0)
            neither = hit & true.difficult[which]
            right, wrong = right & ~neither, ~right & ~neither
        return torch.stack([label.to(score), score, right.to(score), wrong.to(score)], 1)
