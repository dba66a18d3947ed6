"""MobileNet-YOLO's masks: a map for each class that tells which pixels belong to it."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.yolo_loss import delta_loss
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape


@layer("YoloSeg", bottoms=(2, 3), tops=1, fork="YOLO on Caffe", is_loss=True, fixed_bottoms=(1, 2))
class YoloSeg(Layer):
    """The loss of masks. With s the sigmoid of a score and t its mask, d = object_scale (s - t);
    the value is the sum of d^2 / N, the gradient d / N (not the derivative of the value, as in the
    fork).

    With counts, of the pixels of each class in each image, d of a pixel with t > 0.5 is multiplied
    by 2 - r, r the number of the class's pixels over the number of all others in the batch, at most
    1 (the fork has no limit, and trains away from the mask of a class that fills the images).

    Bottoms: scores (N, C, H, W); masks, as many values in [0, 1]; optionally counts (M, C). No
    gradient for these. Top: a scalar. Message: yolo_seg_param; num_class, class_scale,
    use_logic_gradient and use_hardsigmoid change nothing, as in the fork. From MobileNet-YOLO.

    Errors: another number of masks or counts.
    """

    object_scale: float = option()
    num_class: int = option()
    class_scale: float = option()
    use_logic_gradient: bool = option()
    use_hardsigmoid: bool = option()

    def top_shapes(self, x: Shape, masks: Shape, *counts: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes scores N C H W, got shape {shape_text(x)}.")
        if prod(masks) != prod(x):
            raise NetError(
                f"masks must have a value for each score, {shape_text(x)}, got shape"
                f" {shape_text(masks)}."
            )
        for shape in counts:
            if len(shape) < 2 or prod(shape[1:]) != x[1]:
                raise NetError(
                    f"counts must have {x[1]} values an item, got shape {shape_text(shape)}."
                )
        return [()]

    def forward(self, x: Tensor, masks: Tensor, *counts: Tensor) -> Tensor:
        n, classes, h, w = x.shape
        with torch.no_grad():
            masks = masks.reshape(x.shape)
            delta = self.object_scale * (x.sigmoid() - masks)
            for count in counts:
                own = count.reshape(len(count), classes).sum(0)
                others = len(count) * h * w - own
                ratio = (own / others).nan_to_num(0, 1, 1).clamp(0, 1).view(classes, 1, 1)
                delta = torch.where(masks > 0.5, (2 - ratio) * delta, delta)
            value = delta.square().sum() / max(1, n)
        return delta_loss(x, value, delta / max(1, n))


@layer(
    "SegmentationEvaluate",
    bottoms=2,
    tops=1,
    fork="YOLO on Caffe",
    fixed_bottoms=(1,),
    differentiable=False,
)
class SegmentationEvaluate(Layer):
    """How well masks fit: for each class the pixels where both maps exceed threshold, over those
    where one does.

    Bottoms: probabilities (N, C, H, W); true masks (N, C, H', W'). Maps of another size than the
    masks are resized first (bilinear, or the mean of areas if they shrink). Top: (1, 1, 1, C), in
    [0, 1] over the whole batch, 0 where nothing is shared; -1 for a class without pixels if maps
    were resized. No gradient. Message: segmentation_evaluate_param; num_classes changes nothing.
    From MobileNet-YOLO, which looks at the first image and resizes bytes.

    Errors: another number of items or classes.
    """

    num_classes: int = option()
    threshold: float = option()

    def top_shapes(self, x: Shape, masks: Shape) -> list[Shape]:
        if len(x) != 4 or len(masks) != 4 or x[:2] != masks[:2]:
            raise NetError(
                f"takes maps and masks N C H W with the same N and C, got shapes {shape_text(x)}"
                f" and {shape_text(masks)}."
            )
        return [(1, 1, 1, x[1])]

    def forward(self, x: Tensor, masks: Tensor) -> Tensor:
        size = tuple(masks.shape[2:])
        resized = size != tuple(x.shape[2:])
        found = x.detach()
        if resized and x.numel():
            shrinks = prod(size) < prod(x.shape[2:])
            found = interpolate(found, size, mode="area" if shrinks else "bilinear")
        found, true = (m.reshape(masks.shape) > self.threshold for m in (found, masks.detach()))
        both, either, wanted = (m.sum((0, 2, 3)) for m in (found & true, found | true, true))
        fit = (both / either.clamp(min=1)).to(x)
        if resized:
            fit = torch.where(wanted == 0, -1, fit)
        return fit.view(1, 1, 1, -1)
