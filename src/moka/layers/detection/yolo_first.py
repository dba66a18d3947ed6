"""YOLOv1: one class and a few boxes for each cell, and its loss."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.boxes import corners, overlap
from moka.layers.detection.yolo_loss import delta_loss
from moka.layers.labels import class_labels
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape

TRUTH = 7  # maps: difficult, is an object, class; then x, y, w, h of each cell
LARGEST_DISTANCE = 20.0  # the distance that a box without overlap has to beat


class FirstMap(NamedTuple):
    """The parts of a map for side x side cells, L of them, row by row.

    Attributes:
        classes: (N, L, C).
        confidence: (N, L, B).
        boxes: x, y, w, h (N, L, B, 4).
    """

    classes: Tensor
    confidence: Tensor
    boxes: Tensor

    @staticmethod
    def of(x: Tensor, side: int, classes: int, objects: int) -> FirstMap:
        """The parts of x (N, L (C + 5 B)): C maps, B maps, 4 maps for each of B boxes."""
        cells = side * side
        maps = x.reshape(len(x), classes + 5 * objects, cells).transpose(1, 2)
        scores, confidence, boxes = torch.split(maps, [classes, objects, 4 * objects], 2)
        return FirstMap(scores, confidence, boxes.reshape(len(x), cells, objects, 4))

    def joined(self) -> Tensor:
        """The map (N, L (C + 5 B)) of these parts."""
        parts = [self.classes, self.confidence, self.boxes.flatten(2)]
        return torch.cat(parts, 2).transpose(1, 2).flatten(1)

    def placed(self, *, in_cells: bool, roots: bool) -> Tensor:
        """Boxes (N, L, B, 4) of x, y, w, h as fractions of the image.

        Args:
            in_cells: x and y are offsets within the cell, in cells.
            roots: w and h are square roots.
        """
        center, size = self.boxes[..., :2], self.boxes[..., 2:]
        if in_cells:
            side = round(self.boxes.shape[1] ** 0.5)
            center = (cell_offsets(side, center)[:, None] + center) / side
        return torch.cat([center, size.square() if roots else size], -1)

    def corners(self, *, in_cells: bool, roots: bool) -> Tensor:
        """Corners (N, L, B, 4) of `placed`."""
        boxes = self.placed(in_cells=in_cells, roots=roots)
        return corners(boxes[..., :2], boxes[..., 2:])


def cell_offsets(side: int, like: Tensor) -> Tensor:
    """Column and row (L, 2) of each cell."""
    cells = torch.arange(side * side, device=like.device)
    return torch.stack([cells % side, cells // side], 1).to(like)


def check_first_map(x: Shape, labels: Shape, side: int, classes: int, objects: int) -> None:
    """Raises NetError unless x and the true boxes fit side x side cells."""
    for name, shape, each in (("the map", x, classes + 5 * objects), ("true boxes", labels, TRUTH)):
        if len(shape) < 2 or prod(shape[1:]) != side * side * each or shape[0] != x[0]:
            raise NetError(
                f"{side} x {side} cells need {each} numbers a cell for {name},"
                f" {side * side * each} an image, got shape {shape_text(shape)}."
            )


def read_first_truth(
    labels: Tensor, side: int, classes: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each image corners (G, 4), labels (G,) and which are difficult (G,), cell by cell.

    Raises:
        DataError: a label that is no class.
    """
    cells = side * side
    found = []
    for row in labels.detach().flatten(1):
        difficult, is_object, label = row[: 3 * cells].view(3, cells)
        where = is_object != 0
        boxes = row[3 * cells :].view(cells, 4)[where]
        index, _ = class_labels(label[where], classes, None)
        found.append((corners(boxes[:, :2], boxes[:, 2:]), index, difficult[where] == 1))
    return found


@layer(
    "YoloDetectionLoss",
    bottoms=2,
    tops=1,
    message="detection_loss_param",
    fork="YOLO on Caffe",
    is_loss=True,
    fixed_bottoms=(1,),
)
class YoloDetectionLoss(Layer):
    """YOLOv1's loss, which caffe-yolo calls DetectionLoss.

    In each cell, with confidences o, classes p and boxes b: d_o = noobject_scale o. In a cell with
    a true box: d_p = class_scale (p - onehot); of its boxes the one that overlaps the true box most
    (if none does, the nearest one) has d_o = object_scale (o - overlap) and d_b = coord_scale (b -
    true box). The gradient is d / N. The value: squared differences, times the same scales, of
    classes, boxes and o - 1 divided by the number of true boxes, and of the other o divided by
    their number.

    Bottoms: the map, (N, side side (num_class + 5 num_object)): num_class maps, num_object maps
    of o, then x, y, w, h for each box; true boxes (N, 7 side side): maps of difficult, is an
    object, class, then x, y, w, h of each cell as fractions of the image. No gradient for these.
    With `constriant` x and y of the map are offsets within the cell, in cells; with `sqrt` w and h
    are square roots. Top: a scalar. Message: detection_loss_param. Redmon et al., 2016.

    Errors: shapes that do not fit; a label outside the classes.
    """

    side: int = option(positive)
    num_class: int = option(positive)
    num_object: int = option(positive)
    object_scale: float = option()
    noobject_scale: float = option()
    class_scale: float = option()
    coord_scale: float = option()
    sqrt: bool = option()
    constriant: bool = option()

    def top_shapes(self, x: Shape, labels: Shape) -> list[Shape]:
        check_first_map(x, labels, self.side, self.num_class, self.num_object)
        return [()]

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        n = len(x)
        with torch.no_grad():
            cells = self.side**2
            flat = labels.detach().flatten(1)
            where = (flat[:, cells : 2 * cells] != 0).nonzero(as_tuple=True)
            true = flat[:, 3 * cells :].reshape(n, cells, 4)[where]
            label, _ = class_labels(flat[:, 2 * cells : 3 * cells][where], self.num_class, None)
            parts = FirstMap.of(x, self.side, self.num_class, self.num_object)
            deltas, value = self._deltas(parts, where, true, label)
            gradient = deltas.joined().view_as(x) / max(1, n)
        return delta_loss(x, value, gradient)

    def _deltas(
        self, parts: FirstMap, where: tuple[Tensor, ...], true: Tensor, label: Tensor
    ) -> tuple[FirstMap, Tensor]:
        """The deltas and the loss's value.

        Args:
            where: image and cell (G,) of the true boxes.
            true: (G, 4) of x, y, w, h.
        """
        placed = parts.placed(in_cells=self.constriant, roots=self.sqrt)[where]
        shared = overlap(
            corners(placed[..., :2], placed[..., 2:]), corners(true[:, :2], true[:, 2:])[:, None]
        )[..., 0]
        far = (placed - true[:, None]).square().sum(-1).sqrt().clamp(max=LARGEST_DISTANCE)
        most = shared.max(1)
        best = most.indices.where(most.values > 0, far.argmin(1))
        own = (*where, best)
        wanted = true.clone()
        if self.constriant:
            offsets = cell_offsets(self.side, true)[where[1]]
            wanted[:, :2] = true[:, :2] * self.side - offsets
        if self.sqrt:
            wanted[:, 2:] = true[:, 2:].sqrt()
        onehot = torch.nn.functional.one_hot(label, self.num_class)
        deltas = FirstMap(
            torch.zeros_like(parts.classes),
            self.noobject_scale * parts.confidence,
            torch.zeros_like(parts.boxes),
        )
        deltas.classes[where] = self.class_scale * (parts.classes[where] - onehot)
        deltas.boxes[own] = self.coord_scale * (parts.boxes[own] - wanted)
        deltas.confidence[own] = self.object_scale * (parts.confidence[own] - most.values)
        empty = torch.ones_like(parts.confidence, dtype=torch.bool)
        empty[own] = False
        positives = self.class_scale * (parts.classes[where] - onehot).square().sum()
        positives = positives + self.coord_scale * (parts.boxes[own] - wanted).square().sum()
        positives = positives + self.object_scale * (parts.confidence[own] - 1).square().sum()
        negatives = self.noobject_scale * parts.confidence[empty].square().sum()
        value = positives / max(1, len(true)) + negatives / max(1, int(empty.sum()))
        return deltas, value
