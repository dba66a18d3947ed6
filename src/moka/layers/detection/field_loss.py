"""The losses of MS-CNN and Cascade R-CNN at the cells of score maps, and their accuracy."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.detection.boxes import overlap
from moka.layers.detection.regression import (
    Bounds,
    DeltaStatistics,
    RegressionLayer,
    boxes_of,
    field_boxes,
    field_centers,
    limited,
)
from moka.layers.labels import class_labels
from moka.layers.loss.smooth_l1 import smooth_l1
from moka.layers.loss.softmax import SMALLEST
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape

SMALLEST_SIDE = 2  # pixels: smaller true boxes count as this high and wide


class FieldTruth(NamedTuple):
    """The label and the true box of each cell.

    Attributes:
        label: (N, H, W), int64, 0 for background.
        boxes: (N, 4, H, W) of center x, y, width, height in pixels.
        shared: (N, H, W), overlap of the field with the nearest true box.
    """

    label: Tensor
    boxes: Tensor
    shared: Tensor

    @classmethod
    def read(cls, blob: Tensor) -> FieldTruth:
        """Read a blob (N, 6, H, W) of label, box and overlap."""
        values = blob.detach()
        return cls(values[:, 0].long(), values[:, 1:5], values[:, 5])

    def background(self, threshold: float) -> Tensor:
        """Cells (N, H, W) that are background for sure."""
        return (self.label == 0) & (self.shared < threshold)


def wanted_deltas(
    truth: FieldTruth, fields: Tensor, stride: float, scale: DeltaStatistics
) -> Tensor:
    """Stored deltas (N, 4, H, W) that lead from the fields (N, 2) to the true boxes."""
    size = fields[:, :, None, None]
    centers = field_centers(truth.label.shape[1], truth.label.shape[2], stride, truth.boxes)
    moved = (truth.boxes[:, :2] - centers) / size
    grown = (truth.boxes[:, 2:].clamp(min=SMALLEST_SIDE) / size).log()
    return scale.store(torch.cat([moved, grown], 1), 1)


def cell_losses(scores: Tensor, label: Tensor) -> Tensor:
    """Softmax losses (N, H, W) of scores (N, C, H, W); the gradient knows no floor."""
    losses = -torch.log_softmax(scores, 1).gather(1, label[:, None])[:, 0]
    value = losses.detach()
    highest = -torch.tensor(SMALLEST, dtype=value.dtype).log().item()
    return losses + (value.clamp(max=highest) - value)


class Counted(NamedTuple):
    """The cells that count, as masks (N, H, W), and their weights (N, H, W).

    Attributes:
        classes: those whose class is learned.
        boxes: those whose box is learned.
        weights: factors of the classes' losses.
    """

    classes: Tensor
    boxes: Tensor
    weights: Tensor

    def without(self, label: Tensor, ignored: int | None) -> Counted:
        """All but the cells of a label."""
        if ignored is None:
            return self
        return Counted(
            self.classes & (label != ignored), self.boxes & (label != ignored), self.weights
        )


def classes_and_boxes(
    scores: Tensor, label: Tensor, errors: Tensor, counted: Counted, factor: float
) -> Tensor:
    """A loss (1, 1, 1, 2): class loss plus factor times box loss; and the box loss alone,
    which has no gradient.

    Args:
        scores: (N, C, H, W).
        label: (N, H, W), int64.
        errors: of the deltas, (N, 4, H, W).
    """
    label, _ = class_labels(label.where(counted.classes, 0), scores.shape[1], None)
    losses = cell_losses(scores, label) * counted.weights
    classes = losses.where(counted.classes, 0).sum() / counted.classes.sum().clamp(min=1)
    boxes = errors.where(counted.boxes[:, None], 0).sum() / (4 * counted.boxes.sum()).clamp(min=1)
    boxes = factor * boxes
    return torch.stack([classes + boxes, boxes.detach()]).view(1, 1, 1, 2)


def shared_weights(
    weights: Tensor, positive: Tensor, negative: Tensor, share: float, total: int
) -> Tensor:
    """Weights (N, H, W) scaled so that positive cells have `share` of the total and negative ones
    the rest."""
    positives, negatives = weights[positive].sum(), weights[negative].sum()
    scaled = weights.clone()
    if positives != 0:
        scaled[positive] = weights[positive] * (share * total / positives)
    if negatives != 0:
        scaled[negative] = weights[negative] * ((1 - share) * total / negatives)
    return scaled


@layer("DetectionLoss", bottoms=2, tops=1, is_loss=True, fixed_bottoms=(1,), fork="MS-CNN")
class DetectionLoss(RegressionLayer):
    """MS-CNN's loss of a map of scores and deltas: softmax loss of the classes plus `lambda`
    times the smooth L1 loss (bb_smooth false: half the square) of the deltas.

    Positive cells, with a label other than 0, all count, and with them some of the background
    cells, those whose overlap is below bg_threshold: sample_mode "random" draws bg_multiple times
    as many as there are positive ones, at least 4 (C - 1), each from all cells; "bootstrap" takes
    for each class bg_multiple times its cells, at least 4, with the largest score of that class;
    "mixture" half of both; any other word all of them. The classes' losses, multiplied by a
    weight, are divided by the number of cells that count, those of the deltas by 4 times that of
    positive cells. Weights: with iou_weighted the overlap of positive cells; with pos_neg_weighted
    positive cells together get 1 / (1 + bg_multiple) of the whole. Deltas are limited as in
    BoxOutput; their gradient knows no limit.

    Bottoms: (N, C + 4, H, W), scores and stored deltas (takes a gradient); (N, 6, H, W), label,
    center x, y, width, height of the true box in pixels, overlap. Top: (1, 1, 1, 2), the loss and
    the share of the boxes, which has no gradient. Messages: detection_loss_param (`objectness`:
    two classes, any label but 0 is the second), bbox_reg_param, loss_param (ignore_label).
    Cai et al., 2016 (MS-CNN).

    Errors: counts that do not fit; a label that is no class.
    """

    cls_num: int = option(positive, required=True)
    coord_num: int = option(positive)
    field_h: int = option(positive, required=True)
    field_w: int = option(positive, required=True)
    downsample_rate: int = option(positive, required=True)
    bb_smooth: bool = option()
    field_whr: float = option(positive)
    field_xyr: float = option(positive)
    bg_threshold: float = option()
    bg_multiple: int = option()
    sample_mode: str = option()
    objectness: bool = option()
    iou_weighted: bool = option()
    pos_neg_weighted: bool = option()
    ignore_label: int | None = option(of="loss_param")

    def setup(self, x: Shape, truth: Shape) -> None:
        self.factor = float(getattr(self.config.detection_loss_param, "lambda"))
        self.scale = self.scale_of_deltas()
        self.limits = Bounds(self.field_xyr, self.field_whr).stored(self.scale)

    def top_shapes(self, x: Shape, truth: Shape) -> list[Shape]:
        check_field_maps(x, truth, self.cls_num + self.coord_num, self.coord_num)
        if self.objectness and self.cls_num != 2:
            raise NetError(f"objectness needs cls_num: 2, got {self.cls_num}.")
        return [(1, 1, 1, 2)]

    def forward(self, x: Tensor, blob: Tensor) -> Tensor:
        scores, deltas = x[:, : self.cls_num], x[:, self.cls_num :]
        with torch.no_grad():
            truth = FieldTruth.read(blob)
            label = truth.label.clamp(max=1) if self.objectness else truth.label
            background = self._sampled(scores, label, truth.background(self.bg_threshold))
            positive = truth.label != 0
            counted = Counted(positive | background, positive, self._weights(truth, background))
            fields = deltas.new_tensor([self.field_w, self.field_h]).expand(len(deltas), 2)
            target = wanted_deltas(truth, fields, self.downsample_rate, self.scale)
        errors = limited(deltas, self.limits) - target
        errors = smooth_l1(errors) if self.bb_smooth else 0.5 * errors.square()
        counted = counted.without(label, self.ignore_label)
        return classes_and_boxes(scores, label, errors, counted, self.factor)

    def _sampled(self, scores: Tensor, label: Tensor, background: Tensor) -> Tensor:
        """Background cells (N, H, W) that count."""
        if self.sample_mode not in ("random", "bootstrap", "mixture"):
            return background
        share = 0.5 if self.sample_mode == "mixture" else 1.0
        chosen = torch.zeros_like(background)
        for image in range(len(label)):
            mine, picked = background[image].flatten(), chosen[image].view(-1)
            if self.sample_mode != "bootstrap":
                positives = int((label[image] != 0).sum())
                count = int(positives * self.bg_multiple * share)
                draws = torch.randint(len(mine), (max(count, 4 * (self.cls_num - 1)),))
                draws = draws.to(mine.device)
                picked[draws] |= mine[draws]
            if self.sample_mode != "random":
                cells = mine.nonzero()[:, 0].flip(0)  # of equal scores the last counts
                for k in range(1, self.cls_num):
                    count = max(4, int(int((label[image] == k).sum()) * self.bg_multiple * share))
                    order = scores[image, k].flatten()[cells].argsort(descending=True, stable=True)
                    picked[cells[order[:count]]] = True
        return chosen

    def _weights(self, truth: FieldTruth, background: Tensor) -> Tensor:
        positive = truth.label != 0
        weights = torch.ones_like(truth.shared)
        if self.iou_weighted:
            weights = truth.shared.where(positive, 1)
        if self.pos_neg_weighted and weights[positive].sum() != 0:
            total = int(positive.sum()) + int(background.sum())
            share = 1 / (1 + self.bg_multiple)
            weights = shared_weights(weights, positive, background, share, total)
        return weights


def check_field_maps(x: Shape, truth: Shape, channels: int, coordinates: int = 4) -> None:
    """Raises NetError unless a map has these channels and its truth label, box and overlap."""
    if coordinates != 4:
        raise NetError(f"coord_num must be 4, got {coordinates}.")
    if len(x) != 4 or x[1] != channels:
        raise NetError(f"the channels don't match: needs {channels}, got shape {shape_text(x)}.")
    if truth != (x[0], 6, *x[2:]):
        raise NetError(
            f"the truth of maps {shape_text(x)} is a blob {x[0]} 6 {x[2]} {x[3]}, got shape"
            f" {shape_text(truth)}."
        )


def check_group_maps(scores: Shape, deltas: Shape, truth: Shape, classes: int, fields: int) -> None:
    """Raises NetError unless scores, deltas and truth of the fields of images fit each other."""
    check_field_maps(scores, truth, classes)
    if deltas != (scores[0], 4, *scores[2:]):
        raise NetError(
            f"scores {shape_text(scores)} need deltas {scores[0]} 4 {scores[2]} {scores[3]}, got"
            f" shape {shape_text(deltas)}."
        )
    if scores[0] % fields:
        raise NetError(f"{fields} fields need a multiple of {fields} maps, got {scores[0]}.")


def check_fields(heights: tuple[int, ...], widths: tuple[int, ...]) -> None:
    """Raises NetError unless there are as many heights as widths, and at least one."""
    if not heights or len(heights) != len(widths):
        raise NetError(
            f"field_h and field_w must be given equally often, got {len(heights)} and"
            f" {len(widths)} values."
        )


def mean_overlap(
    deltas: Tensor, truth: FieldTruth, fields: Tensor, stride: float, chosen: Tensor
) -> Tensor:
    """The mean overlap () of the boxes of chosen cells with the true ones; -1 without any."""
    center, size = field_boxes(deltas, fields, stride)
    boxes = boxes_of(center - size / 2, size, 1).movedim(1, -1)[chosen]
    wide = truth.boxes[:, 2:]
    true = boxes_of(truth.boxes[:, :2] - wide / 2, wide, 1).movedim(1, -1)[chosen]
    shared = overlap(boxes[:, None], true[:, None], extra=1)
    return shared.mean() if shared.numel() else deltas.new_tensor(-1.0)


def accuracies(scores: Tensor, label: Tensor, counted: Tensor, top_k: int | None) -> Tensor:
    """Top (1, 1, 1, 2): the share of counted cells whose label is among the best top_k, and that
    of those with a label other than 0; -1 without any. Of equal scores the last one is the best;
    top_k None: the first of the best scores alone."""
    if top_k is None:
        best = scores.argmax(1, keepdim=True)
    else:
        order = scores.flip(1).argsort(dim=1, descending=True, stable=True)
        best = scores.shape[1] - 1 - order[:, :top_k]
    right = (best == label[:, None]).any(1)
    found = []
    for mask in (counted, counted & (label != 0)):
        hits = right[mask].to(scores.dtype)
        found.append(hits.mean() if len(hits) else scores.new_tensor(-1.0))
    return torch.stack(found).view(1, 1, 1, 2)


@layer("DetectionAccuracy", bottoms=2, tops=(1, 2), fork="MS-CNN", differentiable=False)
class DetectionAccuracy(RegressionLayer):
    """How well a map of scores and deltas fits the truth.

    Bottoms: (N, C + 4, H, W), scores and deltas, which are not stored ones: bbox_reg_param is not
    read; (N, 6, H, W), label, center x, y, width, height of the true box in pixels, overlap.
    Tops: (1, 1, 1, 2), the share of cells whose label is among the top_k best scores, and that of
    cells with a label other than 0; optionally the mean overlap (1, 1, 1, 1) of the boxes of the
    latter with the true ones. Cells of ignore_label, and background with an overlap of
    bg_threshold or more, do not count. -1 if no cell does. No gradient. Messages:
    detection_accuracy_param, loss_param. Cai et al., 2016 (MS-CNN).

    Errors: counts that do not fit.
    """

    cls_num: int = option(positive, required=True)
    coord_num: int = option(positive)
    field_h: int = option(positive, required=True)
    field_w: int = option(positive, required=True)
    downsample_rate: int = option(positive, required=True)
    top_k: int = option(positive)
    field_whr: float = option(positive)
    field_xyr: float = option(positive)
    bg_threshold: float = option()
    objectness: bool = option()
    ignore_label: int | None = option(of="loss_param")

    def top_shapes(self, x: Shape, truth: Shape) -> list[Shape]:
        check_field_maps(x, truth, self.cls_num + self.coord_num, self.coord_num)
        shapes: list[Shape] = [(1, 1, 1, 2), (1, 1, 1, 1)]
        return shapes[: self.top_count]

    def forward(self, x: Tensor, blob: Tensor) -> list[Tensor]:
        with torch.no_grad():
            truth = FieldTruth.read(blob)
            deltas = Bounds(self.field_xyr, self.field_whr).clamp(x[:, self.cls_num :])
            fields = deltas.new_tensor([self.field_w, self.field_h]).expand(len(deltas), 2)
            rest = (self.bg_threshold, self.objectness, self.ignore_label, self.top_k)
            tops = judged(x[:, : self.cls_num], deltas, truth, fields, self.downsample_rate, *rest)
        return tops[: self.top_count]


def judged(
    scores: Tensor,
    deltas: Tensor,
    truth: FieldTruth,
    fields: Tensor,
    stride: float,
    threshold: float,
    objectness: bool,
    ignored: int | None,
    top_k: int | None = None,
) -> list[Tensor]:
    """The tops of DetectionAccuracy and DetectionGroupAccuracy."""
    label = truth.label.clamp(max=1) if objectness else truth.label
    counted = (label != 0) | (truth.shared < threshold)
    with_box = truth.label != 0
    if ignored is not None:
        counted &= label != ignored
        with_box &= truth.label != ignored
    shared = mean_overlap(deltas, truth, fields, stride, with_box)
    return [accuracies(scores, label, counted, top_k), shared.view(1, 1, 1, 1)]
