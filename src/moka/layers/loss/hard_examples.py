"""Online hard example mining: train on the regions with the largest loss (R-FCN)."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.ranks import rank_in_group
from moka.layers.labels import check_label_count, class_labels
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.loss.smooth_l1 import position_shape
from moka.layers.loss.softmax import losses_of_positions, shape_of_losses, softmax_nll
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import require_axes, shape_text, sizes_around
from moka.types import Shape


@layer(
    "SoftmaxWithLossOHEM",
    bottoms=2,
    tops=(1, 3),
    message="softmax_param",
    is_loss=True,
    fixed_bottoms=(1,),
    fork="R-FCN",
)
class SoftmaxWithLossOHEM(NormalizedLoss):
    """SoftmaxWithLoss that also tells the loss of each position.

    Bottoms: scores (outer..., C, inner...) with C classes along `axis`; labels, outer * inner
    whole numbers in [0, C). Tops: the loss, a scalar; optionally the probabilities, shaped like
    the scores, and the loss of each position, 0 where ignored, shaped like the labels (one for
    each position of scores N C H W has the shape N 1 H W); both without a gradient. The labels
    take no gradient. Messages: softmax_param (`engine` changes nothing here), loss_param as in
    SoftmaxWithLoss. Shrivastava et al., 2016; Dai et al., 2016 (R-FCN).

    Errors: as many labels as scores / C are wanted; a label outside of [0, C).
    """

    axis: int = option()
    engine: str = option()

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_label_count(x, label, self.axis)
        return [(), x, shape_of_losses(x, label, self.axis)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> list[Tensor]:
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        index, counted = class_labels(label.reshape(outer, 1, inner), classes, self.ignore_label)
        scores = x.reshape(outer, classes, inner)
        loss = softmax_nll(scores, index, counted) / self.divisor(outer, inner, counted)
        tops = [loss]
        if self.top_count > 1:
            tops.append(torch.softmax(x.detach(), self.axis))
        if self.top_count > 2:
            losses = losses_of_positions(scores, index, counted)
            tops.append(losses.reshape(shape_of_losses(x.shape, label.shape, self.axis)))
        return tops


@layer("BoxAnnotatorOHEM", bottoms=4, tops=2, fork="R-FCN", differentiable=False)
class BoxAnnotatorOHEM(Layer):
    """Keeps the labels and box weights of the regions with the largest loss; others are ignored.

    Bottoms: regions (R, 5, ...) whose first value is the image; the loss of each (R, 1, ...);
    their labels (R, 1, ...); the weights of their boxes (R, C, ...). Tops: the labels (R, 1, H,
    W), ignore_label but for the roi_per_img regions of each image with the largest losses; the
    weights (R, C, H, W), 0 but for those. No gradient. Message: box_annotator_ohem_param.
    Shrivastava et al., 2016; Dai et al., 2016 (R-FCN).

    Errors: bottoms of different numbers of regions; regions that have not five values.
    """

    roi_per_img: int = option(positive, required=True)
    ignore_label: int = option()

    def top_shapes(self, rois: Shape, losses: Shape, labels: Shape, weights: Shape) -> list[Shape]:
        require_axes(1, losses, labels)
        require_axes(2, rois, weights)
        if rois[1] != 5:
            raise NetError(f"regions have five values, got shape {shape_text(rois)}.")
        shape = position_shape(rois)
        for blob in (losses, labels):
            if prod(blob) != prod(shape) or blob[0] != rois[0]:
                raise NetError(
                    f"there must be one value for each of {prod(shape)} regions, got shape"
                    f" {shape_text(blob)}."
                )
        if position_shape(weights) != shape:
            raise NetError(
                f"the weights must belong to {prod(shape)} regions, got shape"
                f" {shape_text(weights)}."
            )
        return [shape, (shape[0], weights[1], *shape[2:])]

    def forward(
        self, rois: Tensor, losses: Tensor, labels: Tensor, weights: Tensor
    ) -> list[Tensor]:
        shape = position_shape(tuple(rois.shape))
        image = rois.detach().reshape(shape[0], 5, *shape[2:])[:, 0].flatten()
        rank = rank_in_group(losses.detach().flatten(), image)
        hard = (rank < self.roi_per_img).view(shape)
        kept = labels.detach().reshape(shape).where(hard, self.ignore_label)
        values = weights.detach().reshape(shape[0], weights.shape[1], *shape[2:])
        return [kept, values.where(hard, 0)]
