"""The loss that trains one scale of YOLOv3, and the overlap measures that it may use."""

from __future__ import annotations

from math import pi
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection import grid
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
from moka.layers.detection.yolo_loss import delta_loss
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.types import Shape

FOCUS = 0.5  # alpha of the focal loss, as darknet has it


def match_quality(center: Tensor, size: Tensor, true: Objects, kind: str) -> Tensor:
    """How well boxes (K,) match true ones, at most 1.

    IOU: area shared / area of both. GIOU: minus the part of the smallest box around both that
    neither covers. DIOU: IOU minus the squared distance of the centers over the squared diagonal
    of that box. CIOU: DIOU minus a v, v = 4 / pi^2 (difference of atan(w / h))^2, a = v / (1 - IOU
    + v) as a constant.

    Args:
        center, size: (K, 2).
        kind: IOU, GIOU, DIOU or CIOU.
    """
    first, second = center - size / 2, center + size / 2
    other_first, other_second = true.center - true.size / 2, true.center + true.size / 2
    inner = torch.minimum(second, other_second) - torch.maximum(first, other_first)
    shared = inner.clamp_min(0).prod(1)
    both = size.prod(1) + true.size.prod(1) - shared
    around = torch.maximum(second, other_second) - torch.minimum(first, other_first)
    iou = shared / both
    if kind == "IOU":
        return iou
    if kind == "GIOU":
        hull = around.prod(1)
        return iou - (hull - both) / hull
    diou = iou - (center - true.center).square().sum(1) / around.square().sum(1)
    if kind == "DIOU":
        return diou
    angles = [torch.atan(sizes[:, 0] / sizes[:, 1]) for sizes in (size, true.size)]
    v = 4 / pi**2 * (angles[0] - angles[1]).square()
    return diou - (v / (1 - iou + v + 1e-6)).detach() * v


class Matches(NamedTuple):
    """True boxes and the anchors that have to find them.

    Attributes:
        object: indices of true boxes (K,), rising.
        place: image, anchor of this scale, row, column, (K,) each.
    """

    object: Tensor
    place: tuple[Tensor, Tensor, Tensor, Tensor]


def match(
    objects: Objects, anchors: Tensor, mask: tuple[int, ...], grid_size: Shape, threshold: float
) -> Matches:
    """A true box goes to the anchor whose shape it overlaps most, if this scale has it, and to
    anchors of this scale that it overlaps by more than the threshold, if that is below 1.

    Args:
        anchors: those of all scales (B, 2), as fractions of the image.
        mask: which of them this scale has.
        grid_size: rows and columns.
    """
    shared = shape_overlap(anchors, objects.size[:, None])
    chosen = shared == shared.amax(1, keepdim=True)
    chosen &= chosen.long().cumsum(1) == 1
    if threshold < 1:
        chosen |= shared > threshold
    which, anchor = chosen[:, list(mask)].nonzero().T
    row, column = cells_of(objects, *grid_size)
    return Matches(which, (objects.image[which], anchor, row[which], column[which]))


def scale_anchors(
    biases: tuple[float, ...], mask: tuple[int, ...], num: int
) -> tuple[list[tuple[float, float]], tuple[int, ...]]:
    """The anchors of all scales, in pixels, and which of them a scale of `num` has.

    Raises:
        NetError: fewer values of mask, or one without an anchor.
    """
    if len(mask) < num:
        raise NetError(f"mask needs {num} values, got {len(mask)}.")
    anchors = grid.anchor_sizes(biases)
    grid.masked(anchors, mask[:num])
    return anchors, mask[:num]


def fitting(
    true: Objects, anchors: Tensor, place: tuple[Tensor, ...], grid_size: Shape
) -> tuple[Tensor, Tensor]:
    """The values of a map that give true boxes: sigmoid of x and y, and w and h, (K, 2) each.

    Args:
        anchors: of this scale (A, 2), as fractions of the image.
        grid_size: rows and columns.
    """
    _, anchor, row, column = place
    cells = true.center.new_tensor([grid_size[1], grid_size[0]])
    target = true.center * cells - torch.stack([column, row], 1)
    return target, (true.size / anchors[anchor]).log()


def class_deltas(
    scores: Tensor, label: Tensor, place: tuple[Tensor, ...], *, eps: float = 0, focal: bool
) -> Tensor:
    """Deltas of the classes where true boxes are, 0 elsewhere; see Yolov3.

    Args:
        scores: before the sigmoid, (N, A, H, W, C).
        label, place: of true boxes (K,), in order.
        eps: of label smoothing.
        focal: times the focal factor.
    """
    deltas = torch.zeros_like(scores)
    probability = scores[place].sigmoid()
    own = torch.nn.functional.one_hot(label, scores.shape[-1]).to(scores)
    table = torch.zeros_like(scores).index_put_(place, own, accumulate=True)
    target = table[place].clamp_max(1)
    deltas[place] = probability - (target * (1 - eps) + eps / 2)
    if focal:
        key = flat_index(place, scores.shape[:-1])
        first = last_of(key.flip(0), scores[..., 0].numel()).flip(0)
        at = tuple(index[first] for index in place)
        p = probability[first].gather(1, label[first, None]) + 1e-15
        factor = FOCUS * -(1 - p) * (2 * p * p.log() + p - 1)
        focused = (probability[first] - own[first]) * factor
        later = (target[first] - own[first]) > 0
        deltas[at] = deltas[at].where(later, focused)
    return deltas


class Yolov3MapLoss(Layer):
    """What the losses over a map of YOLOv3 share: their options, anchors and shapes.

    Attributes:
        anchor_values: numbers of an anchor before those of its classes.
        anchors, own: as `scale_anchors` returns them.
    """

    anchor_values: ClassVar[int] = grid.VALUES

    num_class: int = option(positive)
    num: int = option(positive)
    object_scale: float = option()
    noobject_scale: float = option()
    class_scale: float = option()
    coord_scale: float = option()
    thresh: float = option()
    anchors_scale: int = option(positive)
    biases: tuple[float, ...] = option(positive)
    mask: tuple[int, ...] = option()
    use_logic_gradient: bool = option()
    use_focal_loss: bool = option()
    iou_loss: str = option()
    iou_normalizer: float = option()
    iou_thresh: float = option()
    max_delta: float = option()
    accumulate: bool = option()
    label_smooth_eps: float = option()
    side: int = option()

    def setup(self, x: Shape, labels: Shape) -> None:
        self.anchors, self.own = scale_anchors(self.biases, self.mask, self.num)

    def top_shapes(self, x: Shape, labels: Shape) -> list[Shape]:
        grid.check_map(x, self.num, self.num_class, self.anchor_values)
        check_objects(labels, x[0])
        return [()]


@layer("Yolov3", bottoms=2, tops=1, fork="YOLO on Caffe", is_loss=True, fixed_bottoms=(1,))
class Yolov3(Yolov3MapLoss):
    """YOLOv3's loss for one scale. It adds a delta d to the gradient of each value of the map; its
    gradient is d / N, and its value the sum of d^2 / N (not an integral of the gradient).

    With s(v) = sigmoid(v) and boxes as in Yolov3DetectionOutput:

    - each box: d_objectness = noobject_scale s(objectness), or 0 if it overlaps a true box of its
      image by more than thresh;
    - each true box, in the cell of its center, at the anchor (of all `biases`) whose shape it
      overlaps most, if `mask` has it, and at those of `mask` that it overlaps by more than
      iou_thresh (1: only the best): d_objectness = object_scale (s(objectness) - 1); d_class =
      class_scale (s(class) - t), t = label_smooth_eps / 2, for the labels of all true boxes at this
      place 1 - label_smooth_eps / 2; with use_focal_loss times the focal factor, (1 - p) (1 - p - 2
      p log p) / 2 with p = s(class) of the label of the first, and without smoothing;
    - there with iou_loss MSE: d_x = c (s(x) - t_x), d_w = c (w - log(true w / anchor w)), y and h
      likewise, c = coord_scale (2 - true w h). With IOU, GIOU, DIOU or CIOU: d of x and y is minus
      iou_normalizer times the measure's derivative by the center, of w and h by the size, times
      exp(w) or exp(h), each limited to max_delta; the value then has iou_normalizer (1 - measure)
      in place of d^2. Of several true boxes at one place the deltas add up, or with accumulate:
      false the last counts.
    - use_logic_gradient: in the gradient, d of x, y, objectness and classes is multiplied by
      s (1 - s).

    Bottoms: the map (N, num (5 + num_class), H, W); true boxes, (N, 5 T) or SSD's, as in
    RegionLoss. No gradient for these. Top: a scalar. Message: yolov3_param. `biases` are in pixels
    of the image, `anchors_scale` pixels make a cell; `side` changes nothing here. Redmon and
    Farhadi, 2018; Rezatofighi et al., 2019 (GIOU); Zheng et al., 2020 (DIOU, CIOU). From
    MobileNet-YOLO; its overlap measures have a gradient of their own, which doubles that of the
    size, and it divides added deltas of a box by the number of classes with a positive delta.

    Errors: another number of channels; fewer than num values of mask; a mask without an anchor; a
    label outside the classes.
    """

    max_delta: float = option(positive)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        n, _, h, w = x.shape
        with torch.no_grad():
            objects = read_objects(labels, self.num_class, n)
            pixels = x.new_tensor([w, h]) * self.anchors_scale
            anchors = x.new_tensor(self.anchors) / pixels
            found = match(objects, anchors, self.own, (h, w), self.iou_thresh)
            cells = grid.split(x, self.num)
            mine = anchors[list(self.own)]
            deltas, missed = self._deltas(cells, objects, mine, found)
            value = deltas.objectness.square().sum() + deltas.classes.square().sum() + missed
            if self.iou_loss == "MSE":
                value = value + deltas.center.square().sum() + deltas.size.square().sum()
            if self.use_logic_gradient:
                for delta, part in zip(deltas, cells, strict=True):
                    if part is not cells.size:
                        s = part.sigmoid()
                        delta.mul_(s * (1 - s))
            gradient = grid.joined(deltas)
        return delta_loss(x, value / max(1, n), gradient / max(1, n))

    def _deltas(
        self, cells: Cells, objects: Objects, anchors: Tensor, found: Matches
    ) -> tuple[Cells, Tensor]:
        """The deltas, and what the overlap measures add to the value."""
        center, size = grid.placed(cells, anchors)
        boxes = torch.cat([center - size / 2, center + size / 2], -1)
        objectness = cells.objectness.sigmoid()
        deltas = Cells(
            torch.zeros_like(cells.center),
            torch.zeros_like(cells.size),
            (self.noobject_scale * objectness).where(
                largest_overlap(boxes, objects) <= self.thresh, 0
            ),
            torch.zeros_like(cells.classes),
        )
        place = found.place
        deltas.objectness[place] = self.object_scale * (objectness[place] - 1)
        label = objects.label[found.object]
        focal, eps = self.use_focal_loss, self.label_smooth_eps
        wanted = class_deltas(cells.classes, label, place, eps=eps, focal=focal)
        deltas.classes[place] = self.class_scale * wanted[place]
        true = Objects(*(values[found.object] for values in objects))
        if self.iou_loss == "MSE":
            by_center, by_size = self._squared(cells, true, anchors, place)
            missed = center.new_zeros(())
        else:
            by_center, by_size, quality = self._overlapping(center[place], size[place], true)
            by_center = self._limited(by_center)
            by_size = self._limited(by_size * cells.size[place].exp())
            missed = self.iou_normalizer * (1 - quality).sum()
        if not self.accumulate:
            last = last_of(flat_index(place, objectness.shape), objectness.numel())[:, None]
            by_center, by_size = by_center.where(last, 0), by_size.where(last, 0)
        deltas.center.index_put_(place, by_center, accumulate=True)
        deltas.size.index_put_(place, by_size, accumulate=True)
        return deltas, missed

    def _limited(self, derivative: Tensor) -> Tensor:
        """A derivative of the measure as a delta."""
        delta = (-self.iou_normalizer * derivative).nan_to_num(0, 0, 0)
        return delta.clamp(-self.max_delta, self.max_delta)

    def _squared(
        self, cells: Cells, true: Objects, anchors: Tensor, place: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Deltas of squared differences, (K, 2) each."""
        target, wanted = fitting(true, anchors, place, cells.objectness.shape[2:])
        scale = self.coord_scale * (2 - true.size.prod(1, keepdim=True))
        return (
            scale * (cells.center[place].sigmoid() - target),
            scale * (cells.size[place] - wanted),
        )

    def _overlapping(
        self, center: Tensor, size: Tensor, true: Objects
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The measure's derivatives by center and size, (K, 2) each, and the measure (K,)."""
        with torch.enable_grad():
            center, size = center.requires_grad_(), size.requires_grad_()
            quality = match_quality(center, size, true, self.iou_loss)
            by_center, by_size = torch.autograd.grad(quality.sum(), (center, size))
        return by_center, by_size, quality.detach()
