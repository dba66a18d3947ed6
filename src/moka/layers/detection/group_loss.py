"""The loss and accuracy of Cascade R-CNN's proposal maps, each of several fields."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.detection.field_loss import (
    Counted,
    FieldTruth,
    cell_losses,
    check_fields,
    check_group_maps,
    classes_and_boxes,
    judged,
    shared_weights,
    wanted_deltas,
)
from moka.layers.detection.ranks import shuffled
from moka.layers.detection.regression import Bounds, RegressionLayer, limited
from moka.layers.loss.smooth_l1 import smooth_l1
from moka.layers.options import Check, option, positive
from moka.layers.registry import layer
from moka.types import Shape

MINING = ("random", "bootstrap", "mixture")
RANKING = ("conf_loss", "conf_prob")
BOX_LOSSES = ("Smooth_L1", "Euclidean_L2")


def check_word(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises NetError unless an option has one of the known values."""
    if value not in known:
        raise NetError(f'{name} must be one of {", ".join(known)}, got "{value}".')


def field_sizes(heights: tuple[int, ...], widths: tuple[int, ...], maps: Tensor) -> Tensor:
    """Widths and heights (NG, 2) of the fields of maps (NG, ...), those of an image in a row."""
    sizes = maps.new_tensor(list(zip(widths, heights, strict=True)))
    return sizes.repeat(len(maps) // len(sizes), 1)


def in_image(values: Tensor, fields: int) -> Tensor:
    """Values (NG, H, W) of all cells of an image in a row, (N, G H W)."""
    return values.reshape(len(values) // fields, fields * values.shape[1] * values.shape[2])


@layer(
    "DetectionGroupLoss", bottoms=3, tops=1, is_loss=True, fixed_bottoms=(2,), fork="Cascade R-CNN"
)
class DetectionGroupLoss(RegressionLayer):
    """Loss of the scores and deltas of cells with several fields: softmax loss of the classes plus
    `lambda` times the smooth L1 (or bbox_loss_type Euclidean_L2, half the squared) loss of deltas.

    Of each image, positive cells (label above 0) and background cells (label 0, overlap below
    bg_threshold) are sampled: with batch_size -1 all positive ones and bg_multiple times as many
    of the background, at least min_num_neg; else batch_size cells, 1 / (1 + bg_multiple) of them
    positive. Which of the background: neg_mining_type "random", "bootstrap" (those with the
    largest neg_ranking_type: conf_loss, the loss, or conf_prob, 1 minus the background's
    probability) or "mixture" (half of both). The classes' losses are divided by the number of
    cells sampled, those of the deltas by 4 times that of positive ones. pos_neg_weighted gives
    positive cells together 1 / (1 + bg_multiple) of the whole. If field_xyr and field_whr are both
    set, deltas are limited as in BoxOutput; their gradient knows no limit.

    Bottoms: scores (N G, C, H, W), the G fields of an image after each other; stored deltas
    (N G, 4, H, W); (N G, 6, H, W), label, center x, y, width, height of the true box in pixels,
    overlap. The first two take gradients. Top: (1, 1, 1, 2), the loss and the share of the boxes,
    which has no gradient. Messages: detection_group_loss_param (`stride` in pixels a cell;
    `objectness`: two classes, any label but 0 is the second), bbox_reg_param, loss_param
    (ignore_label). Cai and Vasconcelos, 2018 (Cascade R-CNN).

    Errors: counts that do not fit; a label that is no class; another word of an option.
    """

    cls_num: int = option(positive, required=True)
    field_h: tuple[int, ...] = option(positive)
    field_w: tuple[int, ...] = option(positive)
    stride: int = option(positive, required=True)
    field_whr: float | None = option(positive, unset_is_none=True)
    field_xyr: float | None = option(positive, unset_is_none=True)
    bg_threshold: float = option()
    bg_multiple: int = option()
    neg_mining_type: str = option()
    neg_ranking_type: str = option()
    min_num_neg: int = option()
    objectness: bool = option()
    batch_size: int = option(Check(lambda v: v > 0 or v == -1, "> 0, or -1 for all"))
    pos_neg_weighted: bool = option()
    bbox_loss_type: str = option()
    ignore_label: int | None = option(of="loss_param")

    def setup(self, *bottom_shapes: Shape) -> None:
        check_fields(self.field_h, self.field_w)
        check_word("neg_mining_type", self.neg_mining_type, MINING)
        check_word("neg_ranking_type", self.neg_ranking_type, RANKING)
        check_word("bbox_loss_type", self.bbox_loss_type, BOX_LOSSES)
        self.factor = float(getattr(self.config.detection_group_loss_param, "lambda"))
        self.scale = self.scale_of_deltas()
        self.limits = None
        if self.field_xyr is not None and self.field_whr is not None:
            self.limits = Bounds(self.field_xyr, self.field_whr).stored(self.scale)

    def top_shapes(self, scores: Shape, deltas: Shape, truth: Shape) -> list[Shape]:
        check_group_maps(scores, deltas, truth, self.cls_num, len(self.field_h))
        if self.objectness and self.cls_num != 2:
            raise NetError(f"objectness needs cls_num: 2, got {self.cls_num}.")
        return [(1, 1, 1, 2)]

    def forward(self, scores: Tensor, deltas: Tensor, blob: Tensor) -> Tensor:
        with torch.no_grad():
            truth = FieldTruth.read(blob)
            label = truth.label.clamp(max=1) if self.objectness else truth.label
            positive, background = self._sampled(scores, truth, label)
            weights = torch.ones_like(truth.shared)
            if self.pos_neg_weighted:
                total = int(positive.sum()) + int(background.sum())
                share = 1 / (1 + self.bg_multiple)
                weights = shared_weights(weights, positive, background, share, total)
            fields = field_sizes(self.field_h, self.field_w, deltas)
            target = wanted_deltas(truth, fields, self.stride, self.scale)
        errors = (deltas if self.limits is None else limited(deltas, self.limits)) - target
        squared = self.bbox_loss_type == "Euclidean_L2"
        errors = 0.5 * errors.square() if squared else smooth_l1(errors)
        counted = Counted(positive | background, positive, weights)
        counted = counted.without(label, self.ignore_label)
        return classes_and_boxes(scores, label, errors, counted, self.factor)

    def _sampled(self, scores: Tensor, truth: FieldTruth, label: Tensor) -> tuple[Tensor, Tensor]:
        """The positive and the background cells (NG, H, W) that count."""
        fields = len(self.field_h)
        if self.neg_ranking_type == "conf_prob":
            hardness = 1 - scores.softmax(1)[:, 0]
        else:
            hardness = cell_losses(scores, torch.zeros_like(label))
        positive = in_image(truth.label > 0, fields)
        background = in_image(truth.background(self.bg_threshold), fields)
        rank = in_image(hardness, fields)
        chosen = torch.zeros_like(positive), torch.zeros_like(background)
        for image in range(len(positive)):
            pos, neg = positive[image].nonzero()[:, 0], background[image].nonzero()[:, 0]
            wanted = self._counts(len(pos), len(neg))
            chosen[0][image, shuffled(pos, wanted[0])] = True
            chosen[1][image, self._mined(neg, wanted[1], rank[image])] = True
        shape = truth.label.shape
        return chosen[0].view(shape), chosen[1].view(shape)

    def _counts(self, positives: int, negatives: int) -> tuple[int, int]:
        """The numbers of positive and of background cells of an image that count."""
        if self.batch_size == -1:
            wanted = max(positives * self.bg_multiple, self.min_num_neg)
            return positives, min(wanted, negatives)
        pos = min(int(self.batch_size / (1 + self.bg_multiple) + 0.5), positives)
        return pos, min(self.batch_size - pos, negatives)

    def _mined(self, cells: Tensor, count: int, hardness: Tensor) -> Tensor:
        """`count` of the background cells of an image."""
        if len(cells) <= count:
            return cells
        if self.neg_mining_type == "random":
            return shuffled(cells, count)
        hard = count if self.neg_mining_type == "bootstrap" else int(count * 0.5 + 0.5)
        cells = cells.flip(0)  # of equal ones the last is the hardest
        order = cells[hardness[cells].argsort(descending=True, stable=True)]
        return torch.cat([order[:hard], shuffled(order[hard:], count - hard)])


@layer("DetectionGroupAccuracy", bottoms=3, tops=(1, 2), fork="Cascade R-CNN", differentiable=False)
class DetectionGroupAccuracy(RegressionLayer):
    """How well the scores and deltas of cells with several fields fit the truth.

    Bottoms: scores (N G, C, H, W), stored deltas (N G, 4, H, W), and (N G, 6, H, W), label, center
    x, y, width, height of the true box in pixels, overlap, as in DetectionGroupLoss. Tops as in
    DetectionAccuracy, with the best score alone. No gradient. Messages:
    detection_group_accuracy_param, bbox_reg_param, loss_param (ignore_label).
    Cai and Vasconcelos, 2018 (Cascade R-CNN).

    Errors: counts that do not fit.
    """

    cls_num: int = option(positive, required=True)
    field_h: tuple[int, ...] = option(positive)
    field_w: tuple[int, ...] = option(positive)
    stride: int = option(positive, required=True)
    field_whr: float = option(positive)
    field_xyr: float = option(positive)
    bg_threshold: float = option()
    objectness: bool = option()
    ignore_label: int | None = option(of="loss_param")

    def setup(self, *bottom_shapes: Shape) -> None:
        check_fields(self.field_h, self.field_w)
        self.scale = self.scale_of_deltas()

    def top_shapes(self, scores: Shape, deltas: Shape, truth: Shape) -> list[Shape]:
        check_group_maps(scores, deltas, truth, self.cls_num, len(self.field_h))
        shapes: list[Shape] = [(1, 1, 1, 2), (1, 1, 1, 1)]
        return shapes[: self.top_count]

    def forward(self, scores: Tensor, deltas: Tensor, blob: Tensor) -> list[Tensor]:
        with torch.no_grad():
            bounds = Bounds(self.field_xyr, self.field_whr)
            moves = bounds.clamp(self.scale.restore(deltas, 1))
            fields = field_sizes(self.field_h, self.field_w, deltas)
            rest = (self.bg_threshold, self.objectness, self.ignore_label)
            tops = judged(scores, moves, FieldTruth.read(blob), fields, self.stride, *rest)
        return tops[: self.top_count]
