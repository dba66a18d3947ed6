"""NVIDIA's DetectNet: the Python layers that NVCaffe brings, from a grid of boxes to their scores.

A prototxt names them by module (caffe.layers.detectnet.clustering and .mean_ap) and class; a module
of that name on the user's path comes before the class here. Their `param_str` is a list of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import ClassVar

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BoxColumns
from moka.layers.detection.boxes import overlap
from moka.layers.python import TensorLayer, built_in
from moka.types import Shape

MAX_BOXES = 50  # rows of an image's list; more boxes are left out
COLUMNS = 5  # x1, y1, x2, y2 and a number
MATCH = 0.7  # overlap of a box that is found
FOUND, FALSE, MISSED = 1, 2, 3


def as_lists(boxes: Sequence[Tensor], like: Tensor) -> Tensor:
    """Boxes of each image (K, 5 or less) as rows (N, MAX_BOXES, 5), zeros behind."""
    lists = like.new_zeros(len(boxes), MAX_BOXES, COLUMNS)
    for rows, found in zip(lists, boxes, strict=True):
        found = found[:MAX_BOXES]
        rows[: len(found), : found.shape[1]] = found.half().to(like)  # as NVCaffe rounds them
    return lists


def group_rectangles(
    boxes: Tensor, threshold: int, eps: float
) -> list[tuple[tuple[float, ...], int]]:
    """OpenCV's groupRectangles as DetectNet calls it: second corners stand for widths and heights.

    Two boxes are alike if x1, y1, x1 + x2 and y1 + y2 differ by no more than
    eps (min x2 + min y2) / 2; boxes that are alike, or connected by such, are a group. A group
    stays if it has more than `threshold` boxes and its mean does not lie, with margins of eps, in
    that of a group with more than 3 and more boxes, or, if it has 1 or 2 itself, of any group that
    stays.

    Args:
        boxes: (K, 4) whole numbers.

    Returns:
        for each group, in the order of its first box: the mean, rounded, and its size. With a
        threshold of 0 or less: all boxes, each by itself.
    """
    if threshold <= 0:
        return [(tuple(row), 1) for row in boxes.tolist()]
    low, high = boxes[:, :2], boxes[:, 2:]
    limit = eps * torch.minimum(high[:, None], high).sum(2) / 2
    edges = torch.cat([low, low + high], 1)
    alike = ((edges[:, None] - edges).abs() <= limit[..., None]).all(2)
    label = torch.arange(len(boxes), device=boxes.device)
    for _ in range(len(boxes)):  # each box takes the least label of those like it
        spread = label.expand_as(alike).where(alike, len(boxes)).amin(1)
        if torch.equal(spread, label):
            break
        label = spread
    groups = [boxes[label == k].double() for k in torch.unique(label).tolist()]
    means = [(tuple(group.mean(0).round().tolist()), len(group)) for group in groups]
    large = [(mean, size) for mean, size in means if size > threshold]
    return [(mean, size) for mean, size in large if not _is_inside_another(mean, size, large, eps)]


def _is_inside_another(
    mean: tuple[float, ...], size: int, groups: list[tuple[tuple[float, ...], int]], eps: float
) -> bool:
    """Whether the mean of a group lies in that of another which stands for it; see above."""
    x, y, w, h = mean
    for other, count in groups:
        u, v, width, height = other
        dx, dy = round(width * eps), round(height * eps)
        lies_inside = (
            other is not mean
            and u - dx <= x
            and v - dy <= y
            and x + w <= u + width + dx
            and y + h <= v + height + dy
        )
        if lies_inside and (count > max(3, size) or size < 3):
            return True
    return False


class _Grid(TensorLayer):
    """What both clustering layers share: the grid, one top for each class."""

    numbers: ClassVar[tuple[str, ...]] = ("image width", "image height", "stride")

    def setup(self, coverage: Shape, boxes: Shape) -> None:
        parts = self.param_str.split(",")
        try:
            self.values = [float(part) for part in parts]
        except ValueError:
            self.values = []
        if len(self.values) not in (len(self.numbers), len(self.numbers) + 1):
            raise NetError(
                f"param_str must list {', '.join(self.numbers)} and the number of classes, got"
                f' "{self.param_str}".'
            )
        classes = int(self.values[-1]) if len(self.values) > len(self.numbers) else 1
        if not classes == self.top_count == coverage[1]:
            raise NetError(
                f"param_str says {classes} classes: there must be as many tops and channels of the"
                f" coverage, got {self.top_count} and {coverage[1]}."
            )

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        coverage, boxes = bottom_shapes
        if boxes != (coverage[0], 4, *coverage[2:]) or len(coverage) != 4:
            raise NetError(f"takes coverage (N, classes, h, w) and boxes (N, 4, h, w), got shapes"
                           f" {coverage} and {boxes}.")  # fmt: skip
        return [(coverage[0], MAX_BOXES, COLUMNS)] * self.top_count

    def forward(self, coverage: Tensor, boxes: Tensor) -> list[Tensor]:
        lists = (
            [self.cluster(c, b) for c, b in zip(of_class, boxes, strict=True)]
            for of_class in coverage.unbind(1)
        )
        return [as_lists(each, boxes) for each in lists]

    def proposals(self, is_covered: Tensor, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) in pixels of the image, of the cells (h, w) that are covered."""
        width, height, stride = self.values[:3]
        columns, rows = int(width / stride), int(height / stride)
        y, x = is_covered[:rows, :columns].nonzero().unbind(1)
        steps = torch.stack([x * (width / columns), y * (height / rows)] * 2, 1)
        return boxes[:, y, x].T + steps.to(boxes)

    def cluster(self, coverage: Tensor, boxes: Tensor) -> Tensor:
        """The list (K, 4 or 5) of one class of one image."""
        raise NotImplementedError


@built_in("caffe.layers.detectnet.clustering")
class ClusterGroundtruth(_Grid):
    """True boxes of each image, from a grid whose cells each hold the corners of their box.

    Bottoms: coverage (N, classes, h, w), above 0 where there is an object; boxes (N, 4, h, w): x1,
    y1, x2, y2 from the cell's corner, in pixels. Tops, one for each class: (N, 50, 5), boxes, each
    once, and a 0. param_str: "image width, image height, stride, classes".
    """

    def cluster(self, coverage: Tensor, boxes: Tensor) -> Tensor:
        return torch.unique(self.proposals(coverage > 0, boxes), dim=0)


@built_in("caffe.layers.detectnet.clustering")
class ClusterDetections(_Grid):
    """Detections of each image: similar boxes of neighboring cells become one.

    Of the cells whose coverage reaches the threshold OpenCV's groupRectangles makes groups; a group
    of too few boxes, or whose mean box is lower than the least height, is left out.

    Bottoms: as in ClusterGroundtruth. Tops, one for each class: (N, 50, 5), boxes and the natural
    logarithm of the size of their group. param_str: "image width, image height, stride, coverage
    threshold, boxes that a group needs less 1, largest relative difference within a group, least
    height, classes".
    """

    box_columns = BoxColumns(COLUMNS, corner=0, score=4)
    numbers = (*_Grid.numbers, "coverage threshold", "group threshold", "eps", "least height")

    def cluster(self, coverage: Tensor, boxes: Tensor) -> Tensor:
        threshold, least_boxes, eps, least_height = self.values[3:7]
        proposals = self.proposals(coverage >= threshold, boxes)
        if not proposals.any():
            return proposals.new_zeros(0, COLUMNS)
        rows = [
            [*box, log(size)]
            for box, size in group_rectangles(proposals.trunc(), int(least_boxes), eps)
            if box[3] - box[1] >= least_height
        ]
        return proposals.new_tensor(rows).reshape(-1, COLUMNS)


@built_in("caffe.layers.detectnet.mean_ap")
class ScoreDetections(TensorLayer):
    """Marks detections and true boxes: 1 a box that was found, 2 a wrong one, 3 a missed one.

    A true box takes the first detection not yet taken that overlaps it by 0.7 or more.

    Bottoms: true boxes and detections, (N, 50, 5) each, as the clustering layers make them. Top:
    (N, 50, 5): boxes and marks, found ones first, then wrong ones, then missed ones.
    """

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        truth, found = bottom_shapes
        if len(truth) != 3 or len(found) != 3 or truth[0] != found[0]:
            raise NetError(f"takes lists (N, K, 5) of as many images, got shapes {truth} and"
                           f" {found}.")  # fmt: skip
        return [(truth[0], MAX_BOXES, COLUMNS)]

    def forward(self, truth: Tensor, found: Tensor) -> Tensor:
        return as_lists([self._marked(t, f) for t, f in zip(truth, found, strict=True)], truth)

    @staticmethod
    def _marked(truth: Tensor, found: Tensor) -> Tensor:
        true, boxes = (x[x[:, :4].any(1), :4] for x in (truth, found))
        matches = overlap(true, boxes) >= MATCH
        is_hit = torch.zeros(len(true), dtype=torch.bool)
        is_taken = torch.zeros(len(boxes), dtype=torch.bool)
        for k, row in enumerate(matches.cpu()):
            free = (row & ~is_taken).nonzero()
            if len(free):
                is_hit[k] = is_taken[free[0]] = True
        parts = ((boxes[is_taken], FOUND), (boxes[~is_taken], FALSE), (true[~is_hit], MISSED))
        return torch.cat([torch.cat([p, p.new_full((len(p), 1), m)], 1) for p, m in parts])


@built_in("caffe.layers.detectnet.mean_ap")
class mAP(TensorLayer):  # noqa: N801  (the name that prototxts give)
    """Precision and recall in percent, and their product / 100, which DetectNet calls mAP.

    Bottom: (N, 50, 5) of ScoreDetections. Tops: mAP, precision, recall, each (1,); 0 where nothing
    was found, or nothing is there. param_str is not read.
    """

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        return [(1,)] * 3

    def forward(self, marked: Tensor) -> list[Tensor]:
        found, wrong, missed = ((marked[..., 4] == m).sum() for m in (FOUND, FALSE, MISSED))
        precision, recall = (
            (100 * found / (found + other).clamp_min(1)).to(marked) for other in (wrong, missed)
        )
        return [x.reshape(1) for x in (precision * recall / 100, precision, recall)]
