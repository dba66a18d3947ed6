"""Layers that score a prediction and give no gradient."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.labels import check_label_count, class_labels
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, canonical_axis, require_axes, sizes_around
from moka.types import Shape


@layer("Accuracy", bottoms=2, tops=(1, 2), fixed_bottoms=(1,), differentiable=False)
class Accuracy(Layer):
    """The fraction of positions whose label is among the top_k scores.

    A position is right if fewer than top_k other classes have a score at least as high as its
    label. So ties count against it, and constant scores are all wrong.

    Bottoms: scores (outer..., C, inner...) with classes along `axis`; labels, outer * inner whole
    numbers in [0, C). Tops: the accuracy in [0, 1], a scalar (0 if no label counts); optionally
    the accuracy of each class (C,), 0 for a class without labels. No gradients.
    Message: accuracy_param. Labels equal to ignore_label do not count.

    Errors: top_k larger than C; not one label per position; a label outside [0, C).
    """

    top_k: int = option(positive)
    axis: int = option()
    ignore_label: int | None = option()

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_label_count(x, label, self.axis)
        _, classes, _ = sizes_around(x, self.axis)
        if self.top_k > classes:
            raise NetError(f"top_k must be <= number of classes ({classes}), got {self.top_k}.")
        return [(), (classes,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        x = x.detach()
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        scores = x.reshape(outer, classes, inner)
        index, counted = class_labels(label.reshape(outer, 1, inner), classes, self.ignore_label)
        others = (scores >= scores.gather(1, index)).sum(1, keepdim=True) - 1
        right = others < self.top_k
        if counted is None:
            counted = torch.ones_like(right)
        right = right & counted
        accuracy = right.sum().to(x.dtype) / counted.sum().clamp_min(1)
        if self.top_count < 2:
            return accuracy
        members = x.new_zeros(classes).index_add_(0, index.flatten(), counted.flatten().to(x.dtype))
        hits = x.new_zeros(classes).index_add_(0, index.flatten(), right.flatten().to(x.dtype))
        return [accuracy, hits / members.clamp_min(1)]


@layer(
    "EltwiseAccuracy",
    bottoms=2,
    tops=(1, 2),
    message="eltwise_accuracy_param",
    fixed_bottoms=(1,),
    differentiable=False,
    fork="DeconvNet",
)
class EltwiseAccuracy(Accuracy):
    """The fraction of pixels whose label is among the top_k scores: an Accuracy under another name.

    Bottoms: scores (N, C, H, W); labels (N, 1, H, W), whole numbers in [0, C). Tops and errors:
    those of Accuracy. Message: eltwise_accuracy_param (`top_k`, `ignore_label`).

    Of equal scores the fork takes the one with the larger index for the higher one, and without any
    label that counts its accuracy is NaN. Here ties count against the label, and it is 0.
    """


@layer("ArgMax", bottoms=1, tops=1, differentiable=False)
class ArgMax(Layer):
    """Indices (or values) of the top_k largest values; of equal ones the larger index first.

    Bottom: (N, ...). Top without `axis`: indices (N, 1, top_k), or with out_max_val indices and
    values (N, 2, top_k). Top with `axis`: that axis becomes top_k long and holds the indices, or
    with out_max_val the values. No gradient. Message: argmax_param.

    Errors: top_k larger than the number of values.
    """

    out_max_val: bool = option()
    top_k: int = option(positive)
    axis: int | None = option()

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(1, x)
        along = None if self.axis is None else canonical_axis(self.axis, x)
        size = prod(x[1:]) if along is None else x[along]
        if self.top_k > size:
            raise NetError(f"top_k must be less than or equal to the number of classes ({size}),"
                           f" got {self.top_k}.")  # fmt: skip
        if along is not None:
            return [(*x[:along], self.top_k, *x[along + 1 :])]
        # BVLC keeps the bottom's number of axes, at least 3.
        head = (x[0], 2 if self.out_max_val else 1, self.top_k)
        return [(*head, *(1,) * (len(x) - 3))]

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach()
        scores = as_rows(x) if self.axis is None else x.movedim(self.axis, -1)
        # Reversed, so that a stable descending sort puts the larger of equal indices first.
        values, order = scores.flip(-1).sort(dim=-1, descending=True, stable=True)
        values = values[..., : self.top_k]
        index = (scores.shape[-1] - 1 - order[..., : self.top_k]).to(x.dtype)
        if self.axis is not None:
            return (values if self.out_max_val else index).movedim(-1, self.axis)
        rows = torch.stack([index, values], 1) if self.out_max_val else index[:, None]
        return rows.reshape(self.top_shapes(tuple(x.shape))[0])


@layer(
    "MultiLabelAccuracy",
    bottoms=2,
    tops=1,
    fixed_bottoms=(1,),
    differentiable=False,
    fork="sguada's Caffe",
)
class MultiLabelAccuracy(Layer):
    """Five scores of independent yes/no predictions: sensitivity TP / P, specificity TN / N, their
    harmonic mean, precision TP / (TP + FP), and the F1 score 2 TP / (2 TP + FP + FN).

    A score of at least 0 says yes. A target above 0 is one of P, one below 0 one of N; targets are
    cut to whole numbers, and those of 0 do not count. A score whose divisor is 0 is 0; the forks'
    harmonic mean is then NaN.

    Bottoms: scores; targets of the same count. Top: (1, 5, 1, 1). No gradient. No message.

    Errors: scores and targets of different counts.
    """

    def top_shapes(self, x: Shape, target: Shape) -> list[Shape]:
        if prod(x) != prod(target):
            raise NetError(
                f"needs a target for each score, got scores of shape {x} and targets of shape"
                f" {target}."
            )
        return [(1, 5, 1, 1)]

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        says_yes, wanted = x.detach().flatten() >= 0, target.detach().flatten().trunc()
        is_one, is_none = wanted > 0, wanted < 0
        true_positive, false_positive = (says_yes & is_one).sum(), (says_yes & is_none).sum()
        positive_count, negative_count = is_one.sum(), is_none.sum()
        sensitivity = _share(true_positive, positive_count)
        specificity = _share(negative_count - false_positive, negative_count)
        scores = (
            sensitivity,
            specificity,
            _share(2 * sensitivity * specificity, sensitivity + specificity),
            _share(true_positive, true_positive + false_positive),
            _share(2 * true_positive, true_positive + false_positive + positive_count),
        )
        return torch.stack(scores).to(x.dtype).reshape(1, 5, 1, 1)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where whole is 0."""
    return part.double() / torch.where(whole == 0, 1, whole)
