"""Layers that use which labels an image has, for learning from weak labels."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.options import Check, not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes
from moka.types import Shape

NONE = -1  # fills lists of labels that are shorter than others
share = Check(lambda v: 0 <= v <= 1, "from 0 to 1")


@layer("SpatialProduct", bottoms=2, tops=1, coordinates="same", fork="PSPNet and DeepLab")
class SpatialProduct(Layer):
    """Multiply all channels of a position by one factor: y = s x.

    Bottoms: x (N, C, ...); s (N, 1, ...). Top: the shape of x. No message. Both take gradients.

    Errors: an s of another shape.
    """

    def top_shapes(self, x: Shape, factor: Shape) -> list[Shape]:
        if len(x) < 2 or factor != (x[0], 1, *x[2:]):
            raise NetError(f"takes x (N, C, ...) and s (N, 1, ...), got shapes {x} and {factor}.")
        return [x]

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor


@layer("UniqueLabel", bottoms=1, tops=1, fork="PSPNet and DeepLab", differentiable=False)
class UniqueLabel(Layer):
    """The labels that occur in each image, rising, then -1 up to max_labels.

    Those of ignore_label do not count, those of force_label are there in any case.

    Bottom: labels (N, 1, H, W). Top: (N, max_labels, 1, 1). No gradient. Message:
    unique_label_param.

    Errors: no max_labels, or not more than there are in force_label; more labels than max_labels in
    an image.
    """

    max_labels: int = option(positive, required=True)
    ignore_label: tuple[int, ...] = option()
    force_label: tuple[float, ...] = option()

    def setup(self, x: Shape) -> None:
        if self.max_labels <= len(set(self.force_label)):
            raise NetError("At least one label more than the forced ones needs to fit: raise"
                           f" max_labels, {self.max_labels}.")  # fmt: skip

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) < 2 or x[1] != 1:
            raise NetError(f"takes labels (N, 1, H, W), got shape {x}.")
        return [(x[0], self.max_labels, 1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        top = x.new_full((len(x), self.max_labels, 1, 1), NONE)
        forced, ignored = x.new_tensor(self.force_label), x.new_tensor(self.ignore_label)
        for n, row in enumerate(as_rows(x.detach())):
            labels = torch.unique(torch.cat([row[~torch.isin(row, ignored)], forced]))
            if len(labels) > self.max_labels:
                raise DataError(
                    f"image {n} has {len(labels)} labels, max_labels is {self.max_labels}."
                )
            top[n, : len(labels), 0, 0] = labels
        return top


@layer("BiasChannel", bottoms=2, tops=1, fork="PSPNet and DeepLab", fixed_bottoms=(1,))
class BiasChannel(Layer):
    """Raise the scores of the classes that an image, or a pixel, is known to have.

    label_type IMAGE (the default): each label of the image's list raises its class at all pixels,
    class 0 by bg_bias, others by fg_bias. PIXEL: each pixel's label raises its class there by
    fg_bias. If the message gives background_label or bg_bias, the class background_label is raised
    by bg_bias at every pixel whose label counts, and its own label by nothing more. Labels -1 and
    those of ignore_label do not count.

    Bottoms: scores (N, C, H, W); labels (N, L), or with PIXEL (N, 1, H, W) (no gradient). Top: the
    scores. Message: bias_channel_param.

    Errors: labels of another shape; a label that is neither a class nor ignored; a bias below 0.
    """

    bg_bias: float = option(not_negative)
    fg_bias: float = option(not_negative)
    ignore_label: tuple[int, ...] = option()
    label_type: str = option()
    background_label: int = option(not_negative)

    def setup(self, x: Shape, labels: Shape) -> None:
        given = self.config.bias_channel_param.HasField
        self.has_background = given("background_label") or given("bg_bias")

    def top_shapes(self, x: Shape, labels: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes scores (N, C, H, W), got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        if self.label_type == "PIXEL":
            fits, wanted = labels == (x[0], 1, *x[2:]), "(N, 1, H, W)"
        else:
            fits = labels[:1] == x[:1] and len(labels) > 1 and prod(labels[2:]) == 1
            wanted = "(N, L)"
        if not fits:
            raise NetError(f"labels must be {wanted} for scores of shape {x}, got shape {labels}.")
        if self.has_background and self.background_label >= x[1]:
            raise NetError(
                f"background_label {self.background_label} is not among the {x[1]} classes."
            )
        return [x]

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        index = as_rows(labels.detach()).long()  # (N, L) or (N, H W)
        ignored = index.new_tensor((NONE, *self.ignore_label))
        counts = ~torch.isin(index, ignored)
        index = _classes(index, counts, x.shape[1])
        of_image = self.label_type == "IMAGE"
        size = 1 if of_image else prod(x.shape[2:])
        bias = x.new_zeros(len(x), x.shape[1], size)
        used = counts.to(x)
        if of_image:
            amount = torch.where(index == 0, self.bg_bias, self.fg_bias) * used
            bias[:, :, 0].scatter_add_(1, index, amount)
            return x + bias[..., None]
        own = used * self.fg_bias
        if self.has_background:
            own = own.masked_fill(index == self.background_label, 0)
            bias[:, self.background_label] += used * self.bg_bias
        bias.scatter_add_(1, index[:, None], own[:, None])
        return x + bias.reshape(x.shape)


def _classes(index: Tensor, counts: Tensor, classes: int) -> Tensor:
    """Labels as classes, 0 where they do not count.

    Raises:
        DataError: one that counts is outside of the classes.
    """
    used = index[counts]
    if used.numel():
        low, high = (int(v) for v in used.aminmax())
        if low < 0 or high >= classes:
            raise DataError(
                f"label {low if low < 0 else high} is outside of the {classes} classes (0 to"
                f" {classes - 1}).",
                advice="Check the labels of the data, or name it as ignore_label.",
            )
    return index.where(counts, 0)


@layer("AdaptiveBiasChannel", bottoms=2, tops=1, fork="PSPNet and DeepLab", differentiable=False)
class AdaptiveBiasChannel(Layer):
    """Raise the scores of an image's classes until each of them is the best one in a share of the
    pixels: bg_portion for class 0, fg_portion for others.

    With suppress_others (the default) scores of classes that the image lacks are first brought
    below all others: where one is above the smallest score of the image's classes, it becomes that
    score minus margin_others. Then num_iter times, for class 0 and the other classes of the image
    in a random order: with d = the best score among the image's classes minus its own at each
    pixel, the class's scores rise by the value of d that stands at the portion of the sorted d. At
    the end all scores are lowered by one number, so that the mean of the best score is what it was.

    Bottoms: scores (N, C, H, W), C > 1; labels of each image (N, L), -1 for none. Top: the scores.
    No gradient. Message: adaptive_bias_channel_param.

    Errors: labels of another shape; a label that is no class; a portion outside [0, 1].
    """

    num_iter: int = option(positive)
    bg_portion: float = option(share)
    fg_portion: float = option(share)
    suppress_others: bool = option()
    margin_others: float = option(not_negative)

    def top_shapes(self, x: Shape, labels: Shape) -> list[Shape]:
        if len(x) != 4 or x[1] < 2:
            raise NetError(f"takes scores (N, C, H, W) of two classes or more, got shape {x}.")
        refuse_empty_axes(x, first=1)
        if labels[:1] != x[:1] or len(labels) < 2 or prod(labels[2:]) != 1:
            raise NetError(f"takes the labels of {x[0]} images, (N, L), got shape {labels}.")
        return [x]

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        index = as_rows(labels.detach()).long()
        counts = index != NONE
        index = _classes(index, counts, x.shape[1])
        top = x.detach().flatten(2).clone()
        for scores, row, used in zip(top, index, counts, strict=True):
            present = torch.unique(row[used])
            if len(present):
                self._raise(scores, present)
        return top.reshape(x.shape)

    def _raise(self, scores: Tensor, present: Tensor) -> None:
        """Change the scores (C, H W) of an image with these classes, in their place."""
        if self.suppress_others:
            least = scores[present].amin(0)
            absent = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
            absent[present] = False
            others = scores[absent]
            scores[absent] = torch.where(others > least, least - self.margin_others, others)
        best = scores[present].amax(0)
        before = best.mean()
        pixels = scores.shape[1]
        for _ in range(self.num_iter):
            first = present[present == 0]
            others = present[present != 0]
            order = others[torch.randperm(len(others), device=others.device)]
            for label in torch.cat([first, order]).tolist():
                portion = self.fg_portion if label else self.bg_portion
                behind = min(int(portion * pixels), pixels - 1)
                scores[label] += (best - scores[label]).kthvalue(behind + 1).values
                best = torch.maximum(best, scores[label])
        scores += before - best.mean()
