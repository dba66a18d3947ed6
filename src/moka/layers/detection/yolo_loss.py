"""The losses that train YOLO. Each is defined by what it adds to the gradient of the map."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.data.lists import whole_number
from moka.errors import NetError
from moka.files import read_text_file
from moka.layers.detection import grid
from moka.layers.detection.boxes import overlap
from moka.layers.detection.class_tree import ClassTree, name_images, read_tree, split_named
from moka.layers.detection.grid import Cells
from moka.layers.detection.objects import (
    Objects,
    cells_of,
    check_objects,
    flat_index,
    largest_overlap,
    last_of,
    read_objects,
    shape_overlap,
)
from moka.layers.detection.yolo_output import four
from moka.layers.options import option, positive
from moka.layers.passes import PassCounter
from moka.layers.registry import layer
from moka.types import Shape

WARM_UP = 12800  # images in which boxes are drawn to their anchors
WARM_UP_SCALE = 0.01


class _Delta(Function):
    """A loss whose value and gradient are computed together; neither is the other's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None


def delta_loss(x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """The value, with a given gradient for x.

    Args:
        value: a scalar.
        gradient: of x's shape.
    """
    return _Delta.apply(x, value, gradient)  # type: ignore[no-untyped-call]


class RegionScales(NamedTuple):
    """Weights and choices of `region_deltas`; see the options of RegionLoss."""

    object: float
    noobject: float
    classes: float
    coord: float
    threshold: float
    rescore: bool
    bias_match: bool


def region_deltas(
    cells: Cells,
    objects: Objects,
    anchors: Tensor,
    scales: RegionScales,
    *,
    warm_up: bool,
    tree: ClassTree | None = None,
) -> Cells:
    """The delta that YOLOv2's loss adds to the gradient of each value of a map.

    Args:
        objects: the true boxes, their labels as classes of the map.
        anchors: (A, 2), as fractions of the image.
    """
    if tree:
        named, objects = split_named(objects)
    h, w = cells.objectness.shape[2:]
    center, size = grid.placed(cells, anchors)
    boxes = torch.cat([center - size / 2, center + size / 2], -1)
    offset, objectness = cells.center.sigmoid(), cells.objectness.sigmoid()
    slope = objectness * (1 - objectness)
    wrong = scales.noobject * objectness * slope
    deltas = Cells(
        torch.zeros_like(offset),
        torch.zeros_like(cells.size),
        wrong.where(largest_overlap(boxes, objects) <= scales.threshold, 0),
        torch.zeros_like(cells.classes),
    )
    if warm_up:
        deltas.center[:] = WARM_UP_SCALE * (offset - 0.5) * offset * (1 - offset)
        deltas.size[:] = WARM_UP_SCALE * cells.size
    row, column = cells_of(objects, h, w)
    sizes = anchors.expand(len(row), -1, -1)
    if not scales.bias_match:
        sizes = size[objects.image, :, row, column]
    anchor = shape_overlap(sizes, objects.size[:, None]).argmax(1)
    place: tuple[Tensor, ...] = (objects.image, anchor, row, column)
    if tree:
        deltas.classes[:] = scales.classes * tree.deltas(cells.classes, objects.label, place)
        name_images(deltas, cells, named, tree, scales.object, scales.classes)
    chosen = last_of(flat_index(place, objectness.shape), objectness.numel())
    place = tuple(index[chosen] for index in place)
    _, anchor, row, column = place
    label, center, size = objects.label[chosen], objects.center[chosen], objects.size[chosen]
    mine = offset[place]
    target = center * center.new_tensor([w, h]) - torch.stack([column, row], 1)
    weight = scales.coord * (1 if scales.rescore else 2 - size.prod(1, keepdim=True))
    deltas.center[place] = weight * (mine - target) * mine * (1 - mine)
    deltas.size[place] = weight * (cells.size[place] - (size / anchors[anchor]).log())
    score = objectness[place]
    goal = torch.ones_like(score)
    if scales.rescore:
        true = torch.cat([center - size / 2, center + size / 2], -1)
        goal = overlap(boxes[place][:, None], true[:, None])[:, 0, 0]
    deltas.objectness[place] = scales.object * (score - goal) * slope[place]
    if not tree:
        wanted = torch.nn.functional.one_hot(label, cells.classes.shape[-1])
        deltas.classes[place] = scales.classes * (cells.classes[place].softmax(-1) - wanted)
    return deltas


@layer("RegionLoss", bottoms=2, tops=1, fork="YOLO on Caffe", is_loss=True, fixed_bottoms=(1,))
class RegionLoss(PassCounter):
    """YOLOv2's loss. It adds a delta d to the gradient of each value of the map; its value is the
    sum of d^2 / N, its gradient d / N (not the derivative of the value, as in the forks).

    With s(v) = sigmoid(v), o = s(objectness) and boxes as in YoloDetectionOutput:

    - each box: d_objectness = noobject_scale o o (1 - o), or 0 if it overlaps a true box of its
      image by more than thresh;
    - in the first 12,800 images each box: d_x = 0.01 (s(x) - 0.5) s(x) (1 - s(x)), d_y likewise,
      d_w = 0.01 w, d_h = 0.01 h: boxes learn their anchors;
    - each true box, in the cell of its center, at the anchor whose shape it overlaps most (with
      bias_match: 0 at the box predicted there that it overlaps most): d_x = c (s(x) - t_x) s(x)
      (1 - s(x)), d_w = c (w - log(true w / anchor w)), y and h likewise; c = coord_scale, and
      without rescore also times 2 - true w h; d_objectness = object_scale (o - t) o (1 - o), t the
      overlap of box and true box, or 1 without rescore; d_class = class_scale (softmax - onehot).
      Of several true boxes at one place the last counts.
    - softmax_tree: a file with a name and the class above (a line number from 0, -1: none) for each
      class. The softmax runs over each group, classes next to each other with the same class above,
      and a true box has a d_class in its group and in those of all classes above. A true box with x
      and y above 100,000 names a class of its image, whose other boxes then don't count: at the box
      with the largest product of o and the class's probability, d_class as above and d_objectness =
      object_scale (o - 0.3) o (1 - o), or 0 if o >= 0.3 (YOLO9000).

    Bottoms: the map (N, num (5 + num_class), H, W); true boxes (N, 5 T): label from 0 on, x, y, w,
    h as fractions, the first with x = 0 or w = 0 ends an image; or SSD's (1, 1, G, 8) with labels
    from 1 on. Boxes without an area do not count. No gradient for these. Top: a scalar. Message:
    region_loss_param. `biases` are width and height of each anchor in cells, 0.5 if there are none;
    `class_map` is a file of one class for each label. `side`, `softmax`, `jitter`, `absolute` and
    `random` change nothing here. The number of passes is kept in a solver's snapshots. Redmon and
    Farhadi, 2016.

    Errors: another number of channels; too few biases; coords other than 4; a label outside the
    classes; a true box that is not finite; a softmax_tree of another number of classes, or
    with a class before the one above it.
    """

    num_class: int = option(positive)
    num: int = option(positive)
    coords: int = option(four)
    bias_match: int = option()
    rescore: int = option()
    object_scale: float = option()
    noobject_scale: float = option()
    class_scale: float = option()
    coord_scale: float = option()
    thresh: float = option()
    biases: tuple[float, ...] = option(positive)
    softmax_tree: str | None = option()
    class_map: str | None = option()
    side: int = option()
    softmax: int = option()
    jitter: float = option()
    absolute: int = option()
    random: int = option()

    def setup(self, x: Shape, labels: Shape) -> None:
        self.tree = read_tree(self.softmax_tree, self.num_class) if self.softmax_tree else None
        self.anchors = grid.anchor_sizes(self.biases, self.num)
        self.scales = RegionScales(
            self.object_scale,
            self.noobject_scale,
            self.class_scale,
            self.coord_scale,
            self.thresh,
            bool(self.rescore),
            bool(self.bias_match),
        )
        self.classes_of_labels: list[int] = []
        if self.class_map:
            self.classes_of_labels = read_class_map(self.class_map, self.num_class)

    def top_shapes(self, x: Shape, labels: Shape) -> list[Shape]:
        grid.check_map(x, self.num, self.num_class)
        check_objects(labels, x[0])
        return [()]

    def again(self, x: Tensor, labels: Tensor) -> Tensor:
        n, _, h, w = x.shape
        with torch.no_grad():
            if self.classes_of_labels:
                table = torch.tensor(self.classes_of_labels, device=x.device)
                objects = read_objects(labels, len(table), n)
                objects = objects._replace(label=table[objects.label])
            else:
                objects = read_objects(labels, self.num_class, n)
            anchors = x.new_tensor(self.anchors) / x.new_tensor([w, h])
            warm_up = self.passes - 1 < WARM_UP // max(1, n)
            cells = grid.split(x, self.num)
            deltas = region_deltas(
                cells, objects, anchors, self.scales, warm_up=warm_up, tree=self.tree
            )
            gradient = grid.joined(deltas)
            value = gradient.square().sum() / max(1, n)
        return delta_loss(x, value, gradient / max(1, n))


def read_class_map(path: str, classes: int) -> list[int]:
    """A class for each label, one a line.

    Raises:
        NetError: a line that is no class.
    """
    found = [line.split()[0] for line in read_text_file(path).splitlines() if line.strip()]
    for word in found:
        if whole_number(word, classes) is None:
            raise NetError(
                f"{path}: a class map holds a class a line, 0 to {classes - 1}, found {word}."
            )
    return [int(word) for word in found]
