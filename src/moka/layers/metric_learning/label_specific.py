"""Layers that change the score of an item's own class, and leave that of the others or scale it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import pi, prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.gradient import with_gradient_of
from moka.layers.labels import check_one_label_an_item
from moka.layers.metric_learning.additive import own_classes, with_own_scores
from moka.layers.options import not_negative, option
from moka.layers.passes import PassCounter
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes
from moka.schema import caffe_pb2
from moka.types import Array, Shape

WITH_STATISTICS = (3, 5)  # numbers in the blob of versions that keep statistics behind the margin
LEAST_SINE_STEP = 1e-4  # how near a cosine comes to 1 and -1, an angle to pi
STEEPEST = 2.0  # the largest gradient of a score by its cosine


def check_scores(x: Shape, label: Shape) -> None:
    """Raises NetError if there is not one label for each item of scores x."""
    check_one_label_an_item(x, label)
    refuse_empty_axes(x, first=1)


@layer(
    "LabelSpecificMargin",
    bottoms=(2, 3),
    tops=(1, 2),
    state_blobs=1,
    fork="caffe-windows",
    fixed_bottoms=(1, 2),
)
class LabelSpecificMargin(PassCounter):
    """Enlarge the angle to the true class (ArcFace): its score cos(t) becomes cos(t + m), with the
    margin m in degrees; all other scores stay.

    type SOFT multiplies the angle: cos(m t), and cos(m pi) where m t is above pi. A margin of 0
    changes nothing. In TEST nothing changes unless margin_on_test.

    The margin is a blob (1,), margin_base at first, that no solver trains. With margin_base, pass t
    of training, counted from `iteration`, sets it to margin_base + (1 + gamma t)^power - 1; with
    margin_max it is at most that. A third bottom, one number, takes its place. The number of passes
    is kept in a solver's snapshots. `reset_margin` has no effect, as in the fork.

    Bottoms: scores (N, C...), cosines; labels (N) in [0, C); optionally the margin (no gradient).
    Tops: the scores; optionally the margin, (1,). Message: label_specific_margin_param. Deng et
    al., 2018.

    Errors: not one label for each item; a label outside [0, C); a third bottom of another size;
    auto_tune, which is not supported.

    As in caffe-windows on a GPU, cosines are brought into [-1 + 1e-4, 1 - 1e-4] first, and the
    gradient of the score into [0, 2]. There margin_on_test has no effect.
    """

    type: str = option()  # type: ignore[assignment]  # of Module
    margin_base: float = option()
    margin_max: float | None = option(unset_is_none=True)
    power: float = option()
    gamma: float = option()
    iteration: int = option(not_negative)
    reset_margin: bool = option()
    margin_on_test: bool = option()
    auto_tune: bool = option()

    def setup(self, x: Shape, label: Shape, margin: Shape | None = None) -> None:
        if self.auto_tune:
            raise NetError("auto_tune is not supported: give margin_base, or a third bottom.")
        if margin is not None and margin not in ((), (1,)):
            raise NetError(f"the third bottom, the margin, must be one number, got {margin}.")

    def top_shapes(self, x: Shape, label: Shape, margin: Shape | None = None) -> list[Shape]:
        check_scores(x, label)
        return [x, (1,)][: self.top_count]

    def blob_specs(self, x: Shape, label: Shape, margin: Shape | None = None) -> Iterable[BlobSpec]:
        filler = caffe_pb2.FillerParameter(type="constant", value=self.margin_base)
        yield BlobSpec((1,), filler, "margin")

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """The margin alone of a blob that holds statistics, too."""
        if stored.keys() != {0} or stored[0].shape not in [(n,) for n in WITH_STATISTICS]:
            return stored
        return {0: stored[0][:1]}

    @property
    def is_active(self) -> bool:
        """Whether the layer changes anything in this phase."""
        return self.training or self.margin_on_test

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        if self.training:
            self.passes += 1
            with torch.no_grad():
                self._set_margin(self.blobs[0])
        return self.again(*bottoms)

    def _set_margin(self, blob: Tensor) -> None:
        if self.config.label_specific_margin_param.HasField("margin_base"):
            step = self.iteration + self.passes - 1
            blob.fill_(self.margin_base + (1 + self.gamma * step) ** self.power - 1)
        if self.margin_max is not None:
            blob.clamp_(max=self.margin_max)

    def again(self, x: Tensor, label: Tensor, given: Tensor | None = None) -> list[Tensor]:
        margin = (self.blobs[0] if given is None else given.reshape(1)).detach().to(x)
        y = x.clone()
        if self.is_active:
            own = own_classes(as_rows(x), label)
            score = as_rows(x).gather(1, own)
            changed, slope = self.changed(score.detach(), margin)
            changed = with_gradient_of(changed, score * slope.clamp(0, STEEPEST))
            y = with_own_scores(x, own, torch.where(margin != 0, changed, score))
        return [y, margin.clone()][: self.top_count]

    def changed(self, score: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, 1) with the margin (1,), and their derivatives."""
        cosine = score.clamp(-1 + LEAST_SINE_STEP, 1 - LEAST_SINE_STEP)
        sine = (1 - cosine.square()).sqrt()
        if self.type == "SOFT":
            largest = pi - LEAST_SINE_STEP
            angle = score.clamp(-1, 1).acos()
            angle = torch.where(margin * angle > largest, largest, angle)
            return (margin * angle).cos(), margin * (margin * angle).sin() / sine
        turn = margin / 180 * pi
        slope = turn.cos() - cosine / sine * turn.sin()
        return cosine * turn.cos() - sine * turn.sin(), slope


@layer("LabelSpecificRescale", bottoms=2, tops=(1, 2), fork="caffe-windows", fixed_bottoms=(1,))
class LabelSpecificRescale(PassCounter):
    """Multiply the score of the true class by one weight, those of the others by another.

    y = w x for the true class, w = positive_weight; with for_ip only where x is above 0; with
    bias_fix y = w x + 1 - w, unless w is 1. y = negative_weight x for the others. In TEST nothing
    changes unless rescale_test. With positive_weight_base w changes in training:
    positive_weight_base (1 + gamma t)^-power in pass t, counted from iteration + 1, at least
    positive_weight_min and then at most positive_weight_max, if these are given. The number of
    passes is kept in a solver's snapshots. positive_lower_bound and negative_upper_bound have no
    effect, as in the fork.

    Bottoms: scores (N, C...); labels (N) in [0, C) (no gradient). Tops: the scores; optionally w,
    (1,). In-place works. Message: label_specific_rescale_param.

    Errors: not one label for each item; a label outside [0, C); power_on_positive, which the fork
    computes in one way on a CPU and in another one on a GPU.
    """

    positive_weight: float = option()
    negative_weight: float = option()
    positive_lower_bound: float = option()
    negative_upper_bound: float = option()
    rescale_test: bool = option()
    for_ip: bool = option()
    positive_weight_base: float | None = option(unset_is_none=True)
    gamma: float = option()
    power: float = option()
    positive_weight_min: float | None = option(unset_is_none=True)
    positive_weight_max: float | None = option(unset_is_none=True)
    iteration: int = option(not_negative)
    bias_fix: bool = option()
    power_on_positive: bool = option()

    def setup(self, x: Shape, label: Shape) -> None:
        if self.power_on_positive:
            raise NetError("power_on_positive is not supported: the fork gives it two meanings.")

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_scores(x, label)
        return [x, (1,)][: self.top_count]

    @property
    def is_active(self) -> bool:
        """Whether the layer changes anything in this phase."""
        return self.training or self.rescale_test

    def current_weight(self) -> float:
        """The weight of the true class in the pass that is running or was the last."""
        if self.positive_weight_base is None or not self.training:
            return self.positive_weight
        step = self.iteration + max(1, self.passes)
        weight = self.positive_weight_base * (1 + self.gamma * step) ** -self.power
        if self.positive_weight_min is not None:
            weight = max(weight, self.positive_weight_min)
        if self.positive_weight_max is not None:
            weight = min(weight, self.positive_weight_max)
        return weight

    def again(self, x: Tensor, label: Tensor) -> list[Tensor]:
        weight, y = self.current_weight(), x.clone()
        if self.is_active:
            own = own_classes(as_rows(x), label)
            score = as_rows(x).gather(1, own)
            changed = score * weight + (1 - weight if self.bias_fix else 0)
            if self.for_ip:
                changed = changed.where(score > 0, score)
            y = with_own_scores(x * self.negative_weight, own, changed)
        return [y, x.new_full((1,), weight)][: self.top_count]


@layer("LabelSpecificHardMargin", bottoms=2, tops=(1, 2), fork="caffe-windows", fixed_bottoms=(1,))
class LabelSpecificHardMargin(Layer):
    """Bring the angle to the true class nearer to those to the others: y = w x + (1 - w) m for the
    true class, with w = positive_weight and m the mean of the item's other values; these stay.

    In TEST nothing changes.

    Bottoms: angles (N, C...), radians; labels (N) in [0, C) (no gradient). Tops: the angles;
    optionally the mean of |y - x| over the items, (1,), degrees (0 in TEST; no gradient). Message:
    label_specific_hard_margin_param.

    Errors: not one label for each item; a label outside [0, C); fewer than two classes.
    """

    positive_weight: float = option()

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_scores(x, label)
        if prod(x[1:]) < 2:
            raise NetError(f"needs two classes or more, got shape {x}.")
        return [x, (1,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> list[Tensor]:
        y, apart = x.clone(), x.new_zeros(1)
        if self.training:
            rows = as_rows(x)
            own = own_classes(rows, label)
            score = rows.gather(1, own)
            others = (rows.sum(1, keepdim=True) - score) / (rows.shape[1] - 1)
            changed = self.positive_weight * score + (1 - self.positive_weight) * others
            y = with_own_scores(x, own, changed)
            apart = ((changed - score).detach().abs().sum() / max(1, len(rows)) / pi * 180)[None]
        return [y, apart][: self.top_count]
