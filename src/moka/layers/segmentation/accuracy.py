"""How well the labels of an image's pixels are found."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.types import Shape


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often each label (row) was taken for each class (column), (classes, classes) int64.

    Args:
        predicted, labels: int64 of one shape, in [0, classes).
    """
    pairs = (labels * classes + predicted).flatten()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def segmentation_scores(counts: Tensor) -> Tensor:
    """Pixel accuracy, mean accuracy of the classes, and mean intersection over union, (3,) double.

    Args:
        counts: a matrix as `confusion` makes it. Without any pixel the first two are 0. A class
            that has no label does not count in the second; one with neither label nor prediction
            counts as 1 in the third.
    """
    counts = counts.double()
    right, labeled, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    union = labeled + predicted - right
    present = labeled > 0
    accuracy = right.sum() / counts.sum().clamp_min(1)
    mean_accuracy = (right / labeled.clamp_min(1)).sum() / present.sum().clamp_min(1)
    overlap = torch.where(union > 0, right / union.clamp_min(1), 1.0).mean()
    return torch.stack([accuracy, mean_accuracy, overlap])


@layer(
    "SegAccuracy",
    bottoms=2,
    tops=1,
    fixed_bottoms=(1,),
    differentiable=False,
    fork="PSPNet and DeepLab",
)
class SegAccuracy(Layer):
    """Three scores of a map of class labels: pixel accuracy, mean accuracy of the classes, mean
    intersection over union.

    A pixel's class is that with the highest score; of equal ones the last. With `reset: false`
    the counts of all passes so far count, not only those of this one. A class without labels does
    not count in the second score; one with neither labels nor predictions counts as 1 in the third.

    Bottoms: scores (N, C, H, W); labels (N, 1, H, W), whole numbers in [0, C) or among
    `ignore_label`, which do not count. Top: (1, 1, 1, 3). No gradient. Message:
    seg_accuracy_param; `metric` has no effect, as in the fork: all three are given.

    Errors: labels of another shape; a label that is neither a class nor ignored.
    """

    metric: str = option()
    ignore_label: tuple[int, ...] = option()
    reset: bool = option()

    def setup(self, x: Shape, labels: Shape) -> None:
        self.before: Tensor | None = None  # the counts of all passes but the last
        self.counts: Tensor | None = None  # with the last one

    def top_shapes(self, x: Shape, labels: Shape) -> list[Shape]:
        if len(x) != 4 or labels != (x[0], 1, *x[2:]):
            raise NetError(
                f"takes scores (N, C, H, W) and labels (N, 1, H, W), got {x} and {labels}."
            )
        refuse_empty_axes(x, first=1)
        return [(1, 1, 1, 3)]

    def run_state(self) -> list[Tensor]:
        return [] if self.reset or self.counts is None else [self.counts.to(torch.float32)]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        self.counts = tensors[0].to(torch.int64) if tensors else None

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        self.before = None if self.reset else self.counts
        self.counts = self._counts(x, labels)
        return self._scores(self.counts, x)

    def again(self, x: Tensor, labels: Tensor) -> Tensor:
        return self._scores(self._counts(x, labels), x)

    def _scores(self, counts: Tensor, x: Tensor) -> Tensor:
        return segmentation_scores(counts).to(x.dtype).reshape(1, 1, 1, 3)

    def _counts(self, x: Tensor, labels: Tensor) -> Tensor:
        classes = x.shape[1]
        predicted = classes - 1 - x.detach().flip(1).argmax(1)
        index = labels[:, 0].long()
        counted = torch.ones_like(index, dtype=torch.bool)
        for label in self.ignore_label:
            counted &= index != label
        predicted, index = predicted[counted], index[counted]
        if index.numel():
            low, high = (int(v) for v in index.aminmax())
            if low < 0 or high >= classes:
                raise DataError(
                    f"label {low if low < 0 else high} is outside of the {classes} classes"
                    f" (0 to {classes - 1}).",
                    advice="Check the labels of the data, or name it as ignore_label.",
                )
        counts = confusion(predicted, index, classes)
        return counts if self.before is None else counts + self.before.to(counts.device)
