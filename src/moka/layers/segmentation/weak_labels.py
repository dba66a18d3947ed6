"""Segmentation learned from weak labels: which classes an image has, but not where."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.types import Shape

NONE = -1  # what fills a list of labels up


@layer("UniqueLabel", bottoms=1, tops=1, fork="PSPNet and DeepLab", differentiable=False)
class UniqueLabel(Layer):
    """The labels that a label map has.

    Bottom: labels (N, 1, H, W). Top: (N, max_labels, 1, 1): the different labels of each map, in
    rising order, without those of `ignore_label` but always with those of `force_label`; -1 fills
    the rest. Message: unique_label_param. Papandreou et al., 2015.

    Errors: no max_labels, or one that is not above the number of forced labels; maps of several
    channels; a map with more labels.
    """

    max_labels: int = option(positive, required=True)
    ignore_label: tuple[int, ...] = option()
    force_label: tuple[float, ...] = option()

    def setup(self, x: Shape) -> None:
        if self.max_labels <= len(set(self.force_label)):
            raise NetError(
                f"max_labels must be above the number of force_label, {len(set(self.force_label))},"
                f" got {self.max_labels}."
            )

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4 or x[1] != 1:
            raise NetError(f"takes label maps (N, 1, H, W), got a bottom of shape {x}.")
        return [(x[0], self.max_labels, 1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        top = x.new_full((len(x), self.max_labels), NONE)
        for labels, row in zip(x.cpu(), top, strict=True):
            found = set(labels.unique().tolist()) - set(self.ignore_label) | set(self.force_label)
            if len(found) > self.max_labels:
                raise DataError(
                    f"a label map has {len(found)} labels, but max_labels is {self.max_labels}."
                )
            row[: len(found)] = row.new_tensor(sorted(found))
        return top[..., None, None]


class _Biased(Layer):
    """Base of layers that raise the scores of the classes that each image has."""

    def top_shapes(self, scores: Shape, labels: Shape) -> list[Shape]:
        if len(scores) != 4 or labels[:1] != scores[:1] or labels[2:] not in ((), (1, 1)):
            raise NetError(
                f"takes scores (N, C, H, W) and lists of labels (N, L, 1, 1), got shapes {scores}"
                f" and {labels}."
            )
        refuse_empty_axes(scores, first=1)
        return [scores]

    @staticmethod
    def labels_of(lists: Tensor, classes: int, ignored: set[int]) -> Iterator[list[int]]:
        """The labels of each image, without those ignored.

        Raises:
            DataError: a label that is no class.
        """
        for row in lists.flatten(1).tolist():
            labels = [int(label) for label in row if int(label) not in ignored]
            for label in labels:
                if not 0 <= label < classes:
                    raise DataError(f"a label must be in [0, {classes}), got {label}.")
            yield labels


@layer("BiasChannel", bottoms=2, tops=1, fixed_bottoms=(1,), fork="PSPNet and DeepLab")
class BiasChannel(_Biased):
    """Adds a constant to the scores of the classes that an image has: bg_bias for the background,
    fg_bias for others; a label that is listed twice counts twice.

    Bottoms: scores (N, C, H, W); labels (N, L, 1, 1), see UniqueLabel; -1 and those of
    `ignore_label` do not count. Top: as the scores. Message: bias_channel_param. Papandreou et
    al., 2015.

    Errors: shapes that do not fit; a negative bias; `label_type: PIXEL`; a label that is no class.
    """

    bg_bias: float = option(not_negative)
    fg_bias: float = option(not_negative)
    ignore_label: tuple[int, ...] = option()
    label_type: str = option()
    background_label: int = option()

    def setup(self, *_: Shape) -> None:
        if self.label_type != "IMAGE":
            raise NetError(f"label_type must be IMAGE, a list of labels for each image, got"
                           f" {self.label_type}.")  # fmt: skip

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        n, classes = scores.shape[:2]
        bias = torch.zeros(n, classes, dtype=scores.dtype)
        lists = self.labels_of(labels, classes, {NONE, *self.ignore_label})
        for row, found in zip(bias, lists, strict=True):
            for label in found:
                row[label] += self.bg_bias if label == self.background_label else self.fg_bias
        return scores + bias.to(scores.device)[..., None, None]


@layer("AdaptiveBiasChannel", bottoms=2, tops=1, fork="PSPNet and DeepLab", differentiable=False)
class AdaptiveBiasChannel(_Biased):
    """Raises the scores of the classes that an image has until each covers a part of it.

    For each image with labels: with `suppress_others` a class that it does not have gets, where
    its score is above the least of those that it has, that least score minus margin_others. Then
    num_iter times, for each of its classes in a random order (the background, label 0, first): the
    class's scores rise by d, so that it is the best at the wanted portion of pixels (bg_portion for
    the background, else fg_portion): d is the element number floor(portion H W), from 0, of the
    sorted differences between the best score of its classes and its own. At last all scores are
    moved by one constant, so that the mean of the best scores is what it was.

    Bottoms: scores (N, C, H, W); labels (N, L, 1, 1), see UniqueLabel; -1 does not count. Top: as
    the scores. Message: adaptive_bias_channel_param. No gradient. Papandreou et al., 2015.

    Errors: shapes that do not fit; a portion outside of [0, 1]; a label that is no class.
    """

    num_iter: int = option(positive)
    bg_portion: float = option(not_negative)
    fg_portion: float = option(not_negative)
    suppress_others: bool = option()
    margin_others: float = option(not_negative)

    def setup(self, *_: Shape) -> None:
        for name in ("bg_portion", "fg_portion"):
            if getattr(self, name) > 1:
                raise NetError(f"{name} must be in [0, 1], got {getattr(self, name):g}.")

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        top = scores.detach().clone()
        lists = self.labels_of(labels, scores.shape[1], {NONE})
        for image, found in zip(top, lists, strict=True):
            if found:
                self._raise(image.flatten(1), sorted(found))
        return top

    def _raise(self, image: Tensor, labels: list[int]) -> None:
        """Change the scores (C, H W) of one image."""
        pixels = image.shape[1]
        if self.suppress_others:
            least = image[labels].amin(0)
            others = [c for c in range(len(image)) if c not in labels]
            image[others] = image[others].where(image[others] <= least, least - self.margin_others)
        best = image[labels].amax(0)
        mean = best.double().mean()
        has_background = int(labels[0] == 0)
        for _ in range(self.num_iter):
            rest = labels[has_background:]
            shuffled = [rest[k] for k in torch.randperm(len(rest)).tolist()]
            for label in labels[:has_background] + shuffled:
                portion = self.bg_portion if label == 0 else self.fg_portion
                nth = min(int(torch.tensor(portion) * pixels), pixels - 1)  # in float32
                image[label] += (best - image[label]).sort().values[nth]
                best = torch.maximum(best, image[label])
        image += (mean - best.double().mean()).to(image)
