"""Layers that score a prediction without being trained on."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, Shape, canonical_axis, param, positive
from moka.layers.labels import class_labels
from moka.layers.loss import check_label_count
from moka.layers.registry import layer


@layer("Accuracy", bottoms=2, tops=(1, 2), fixed_bottoms=(1,))
class Accuracy(Layer):
    """Part of the labels that are among the top_k scores.

    A position is right if fewer than top_k *other* classes score at least as high as its label's:
    ties count against it, constant scores are all wrong.

    Bottoms: scores (outer..., C, inner...) with classes along `axis`; labels, outer * inner whole
    numbers in [0, C). Tops: the accuracy in [0, 1], a scalar (0 if no label counts); optionally
    the accuracy of each class (C,), 0 for a class without labels. No gradients.
    Message: accuracy_param. Labels equal to ignore_label do not count.

    Errors: top_k larger than C; a count of labels that does not fit; a label outside of [0, C).
    """

    top_k = param(positive)
    axis = param()
    ignore_label = param()

    def setup(self, x: Shape, label: Shape) -> None:
        self.class_axis = canonical_axis(self.axis, x)

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_label_count(x, label, self.class_axis)
        classes = x[self.class_axis]
        if self.top_k > classes:
            raise NetError(f"top_k must be <= number of classes ({classes}), got {self.top_k}.")
        return [(), (classes,)][: max(1, len(self.config.top))]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        x = x.detach()
        outer, inner = prod(x.shape[: self.class_axis]), prod(x.shape[self.class_axis + 1 :])
        classes = x.shape[self.class_axis]
        scores = x.reshape(outer, classes, inner)
        index, counted = class_labels(label.reshape(outer, 1, inner), classes, self.ignore_label)
        others = (scores >= scores.gather(1, index)).sum(1, keepdim=True) - 1
        right = others < self.top_k
        if counted is None:
            counted = torch.ones_like(right)
        right = right & counted
        accuracy = right.sum().to(x.dtype) / counted.sum().clamp_min(1)
        if len(self.config.top) < 2:
            return accuracy
        members = x.new_zeros(classes).index_add_(0, index.flatten(), counted.flatten().to(x.dtype))
        hits = x.new_zeros(classes).index_add_(0, index.flatten(), right.flatten().to(x.dtype))
        return [accuracy, hits / members.clamp_min(1)]
