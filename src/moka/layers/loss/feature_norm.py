"""Losses that keep the length of features small, or let it grow."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.gradient import with_gradient_of
from moka.layers.labels import check_one_label_an_item, class_labels
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes, require_axes
from moka.schema import caffe_pb2
from moka.types import Shape

KEPT = 0.99  # of the moving average, in each pass


@layer("FeatureDecayLoss", bottoms=1, tops=1, state_blobs=1, is_loss=True, fork="caffe-windows")
class FeatureDecayLoss(Layer):
    """The mean length of features, as a moving average: a = 0.99 a + 0.01 mean, at first the mean.

    The gradient is 1 for each length while a is above decay_threshold, or always with force_decay,
    and else 0. In TEST the average that is stored stays as it is.

    Bottom: lengths (N, ...), one for each item. Top: a, a scalar. Blob: a (1,), below 0 before the
    first pass; no solver trains it. Message: feature_decay_loss_param.

    Errors: not one length for each item.

    As in caffe-windows the gradient is not divided by N.
    """

    decay_threshold: float = option()
    force_decay: bool = option()

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(1, x)
        if prod(x[1:]) != 1:
            raise NetError(f"needs one length for each item, got shape {x}.")
        return [()]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        yield BlobSpec((1,), caffe_pb2.FillerParameter(type="constant", value=-1), "average")

    def forward(self, x: Tensor) -> Tensor:
        average = self._average(x.detach())
        if self.training:
            with torch.no_grad():
                self.blobs[0].copy_(average)
        return self._with_gradient(average, x)

    def again(self, x: Tensor) -> Tensor:
        stored = self.blobs[0].detach()
        return self._with_gradient(stored if self.training else self._average(x.detach()), x)

    def _average(self, x: Tensor) -> Tensor:
        """The moving average (1,) with the lengths of this pass."""
        before = self.blobs[0].detach().to(x)
        if not x.numel():
            return before
        mean = x.mean()[None]
        return torch.where(before < 0, mean, KEPT * before + (1 - KEPT) * mean)

    def _with_gradient(self, average: Tensor, x: Tensor) -> Tensor:
        decays = torch.ones_like(average) if self.force_decay else average > self.decay_threshold
        return with_gradient_of(average.clone(), x.sum() * decays.to(x))[0]


@layer(
    "FeatureIncayLoss",
    bottoms=4,
    tops=(1, 2),
    is_loss=True,
    fork="caffe-windows",
    fixed_bottoms=(1, 2, 3),
)
class FeatureIncayLoss(Layer):
    """Lengthen features: the sum of 1 / |x|^2 over the items whose label has the highest score, or
    over all with force_incay, divided by N.

    Bottoms: features x (N, C...); their lengths |x| (N, ...), one for each item, as the second top
    of Normalize gives them; scores (N, K...); labels (N) in [0, K). Only x takes a gradient. Tops:
    the loss, a scalar; optionally the mean length, (1,). Message: feature_incay_loss_param.

    Errors: not one length or not one label for each item; a label outside [0, K).

    As in caffe-windows the gradient, -2 x / |x|^4, is not divided by N.
    """

    force_incay: bool = option()

    def top_shapes(self, x: Shape, norm: Shape, score: Shape, label: Shape) -> list[Shape]:
        for each in (norm, label):
            check_one_label_an_item(x, each)
        check_one_label_an_item(score, label)
        refuse_empty_axes(score, first=1)
        return [(), (1,)][: self.top_count]

    def forward(self, x: Tensor, norm: Tensor, score: Tensor, label: Tensor) -> list[Tensor]:
        square = norm.detach().reshape(-1, 1).square()
        scores = as_rows(score.detach())
        own = class_labels(label.reshape(-1), scores.shape[1], None)[0]
        right = torch.ones_like(square)
        if not self.force_incay:
            right = (scores.argmax(1) == own)[:, None].to(x)
        square = square.where(right > 0, 1)  # the others may have no length
        loss = (right / square).sum() / max(1, len(x))
        pull = as_rows(x.detach()) * (-2 * right / square.square())
        loss = with_gradient_of(loss, (as_rows(x) * pull).sum())
        return [loss, norm.detach().mean().reshape(1)][: self.top_count]
