"""The loss that trains one scale of Gaussian YOLOv3, which says how sure it is of each box."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor

from moka.layers.detection import grid
from moka.layers.detection.boxes import overlap
from moka.layers.detection.grid import Cells
from moka.layers.detection.objects import (
    Objects,
    flat_index,
    largest_overlap,
    last_of,
    read_objects,
)
from moka.layers.detection.yolo_loss import delta_loss
from moka.layers.detection.yolov3_loss import (
    Matches,
    Yolov3MapLoss,
    class_deltas,
    fitting,
    match,
)
from moka.layers.registry import layer

MEANS, SPREADS = [0, 2, 4, 6], [1, 3, 5, 7]  # channels of an anchor: x, y, w, h
OBJECTNESS, CLASSES = 8, 9
LEAST_SPREAD = 0.3
TINY = 1e-9


@layer(
    "GaussianYolov3",
    bottoms=2,
    tops=1,
    message="yolov3_param",
    is_loss=True,
    fixed_bottoms=(1,),
    fork="YOLO on Caffe",
)
class GaussianYolov3(Yolov3MapLoss):
    """Yolov3's loss for a map that has a spread for each of x, y, w and h. It adds a delta d to the
    gradient of each value of the map; its gradient is d / N, and its value the sum of d^2 / N plus
    iou_normalizer / N times the mean of 1 - overlap of the true boxes and the boxes found for them.

    The channels of an anchor are x, its spread, y, w and h likewise, objectness, classes. With
    s(v) = sigmoid(v) and boxes as in Yolov3DetectionOutput:

    - each box: d_objectness = s(objectness), or 0 if it overlaps a true box of its image by more
      than thresh;
    - each true box, in the cell of its center, at the anchor (of all `biases`) whose shape it
      overlaps most, if `mask` has it: d_objectness = s(objectness) - 1 (times object_scale with
      use_logic_gradient); d_class as Yolov3's without smoothing; with t the value that fits the
      true box (as in Yolov3), m that of the map, r = s(spread), e = (t - m) / r, c = coord_scale
      (2 - true w h) q / (q + 1e-9) / 2 and q = exp(-e^2 / 2) / (sqrt(2 pi) (r + 0.3)): d of m is
      -c e / r, d of the spread is c (1 / (r + 0.3) - e^2 / r). Of several true boxes at one place
      the last counts for these;
    - use_logic_gradient: in the gradient, d of all but w and h is multiplied by s (1 - s).

    Bottoms: the map (N, num (9 + num_class), H, W); true boxes, (N, 5 T) or SSD's, as in
    RegionLoss. No gradient for these. Top: a scalar. Message: yolov3_param; its other fields change
    nothing here. Choi et al., 2019. From MobileNet-YOLO.

    Errors: as Yolov3.
    """

    anchor_values = CLASSES

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        n, _, h, w = x.shape
        with torch.no_grad():
            objects = read_objects(labels, self.num_class, n)
            anchors = x.new_tensor(self.anchors) / (x.new_tensor([w, h]) * self.anchors_scale)
            found = match(objects, anchors, self.own, (h, w), 1)
            parts = x.reshape(n, self.num, x.shape[1] // self.num, h, w).movedim(2, -1)
            deltas, missed = self._deltas(parts, objects, anchors[list(self.own)], found)
            value = deltas.square().sum() + missed
            if self.use_logic_gradient:
                s = parts.sigmoid()
                slope = s * (1 - s)
                slope[..., MEANS[2:]] = 1
                deltas = deltas * slope
            gradient = deltas.movedim(-1, 2).reshape(x.shape)
        return delta_loss(x, value / max(1, n), gradient / max(1, n))

    def _deltas(
        self, parts: Tensor, objects: Objects, anchors: Tensor, found: Matches
    ) -> tuple[Tensor, Tensor]:
        """The deltas (N, A, H, W, 9 + C), and what badly placed boxes add to the value."""
        cells = Cells(
            parts[..., MEANS[:2]],
            parts[..., MEANS[2:]],
            parts[..., OBJECTNESS],
            parts[..., CLASSES:],
        )
        center, size = grid.placed(cells, anchors)
        boxes = torch.cat([center - size / 2, center + size / 2], -1)
        objectness = cells.objectness.sigmoid()
        place = found.place
        deltas = torch.zeros_like(parts)
        lost = largest_overlap(boxes, objects) <= self.thresh
        deltas[..., OBJECTNESS] = objectness.where(lost, 0)
        weight = self.object_scale if self.use_logic_gradient else 1
        deltas[..., OBJECTNESS][place] = weight * (objectness[place] - 1)
        label = objects.label[found.object]
        classes = class_deltas(cells.classes, label, place, focal=self.use_focal_loss)
        deltas[..., CLASSES:] = self.class_scale * classes
        true = Objects(*(values[found.object] for values in objects))
        shared = overlap(boxes[place][:, None], true.boxes[:, None])[:, 0, 0]
        missed = self.iou_normalizer * (1 - shared).sum() / max(1, len(label))
        last = last_of(flat_index(place, objectness.shape), objectness.numel())
        at = tuple(index[last] for index in place)
        true = Objects(*(values[last] for values in true))
        wanted = torch.cat(fitting(true, anchors, at, objectness.shape[2:]), 1)
        scale = self.coord_scale * (2 - true.size.prod(1, keepdim=True))
        deltas[at] = deltas[at].index_copy(
            1, at[0].new_tensor(MEANS + SPREADS), _box_deltas(parts[at], wanted, scale)
        )
        return deltas, missed


def _box_deltas(parts: Tensor, wanted: Tensor, scale: Tensor) -> Tensor:
    """Deltas (K, 8) of x, y, w, h and then of their spreads.

    Args:
        parts: the map at true boxes (K, 9 + C).
        wanted: the values that fit them (K, 4).
        scale: (K, 1).
    """
    mean, spread = parts[:, MEANS], parts[:, SPREADS].sigmoid()
    mean = torch.cat([mean[:, :2].sigmoid(), mean[:, 2:]], 1)
    e = (wanted - mean) / spread
    density = (-e.square() / 2).exp() / (sqrt(2 * pi) * (spread + LEAST_SPREAD))
    c = scale * density / (density + TINY) / 2
    by_spread = c * (1 / (spread + LEAST_SPREAD) - e.square() / spread)
    return torch.cat([-c * e / spread, by_spread], 1)
