"""An additive margin: the score of the true class is lowered before the softmax."""

from __future__ import annotations

from torch import Tensor

from moka.layers.labels import check_one_label_an_item, class_labels
from moka.layers.options import not_negative, option
from moka.layers.passes import PassCounter
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes
from moka.types import Shape


def own_classes(rows: Tensor, label: Tensor) -> Tensor:
    """The class of each row of scores (N, C) as an index (N, 1)."""
    return class_labels(label.reshape(-1, 1), rows.shape[1], None)[0]


def with_own_scores(x: Tensor, own: Tensor, scores: Tensor) -> Tensor:
    """x (N, C...) with the scores (N, 1) of the classes `own` (N, 1) in their places."""
    return as_rows(x).scatter(1, own, scores).view(x.shape)


@layer("LabelSpecificAdd", bottoms=2, tops=(1, 2), fork="caffe-windows", fixed_bottoms=(1,))
class LabelSpecificAdd(PassCounter):
    """Add a bias, most often a negative one, to the score of the true class where that is above
    -bias; all other scores stay (AM-Softmax, CosFace).

    In TEST nothing changes unless transform_test. With bias_base the bias changes from pass to
    pass: bias_base + (1 + bias_gamma t)^bias_power - 1 in pass t, counted from `iteration`, at
    least bias_min and then at most bias_max. The number of passes is kept in a solver's snapshots.

    Bottoms: scores (N, C...); labels (N) in [0, C) (no gradient). Tops: the scores; optionally the
    bias, (1,). In-place works. The gradient goes through as it is. Message:
    label_specific_add_param. Wang et al., 2018.

    Errors: not one label for each item; a label outside [0, C).

    In caffe-windows transform_test has no effect.
    """

    bias: float = option()
    transform_test: bool = option()
    bias_base: float | None = option(unset_is_none=True)
    bias_gamma: float = option()
    bias_power: float = option()
    bias_min: float = option()
    bias_max: float = option()
    iteration: int = option(not_negative)

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_one_label_an_item(x, label)
        refuse_empty_axes(x, first=1)
        return [x, (1,)][: self.top_count]

    @property
    def is_active(self) -> bool:
        """Whether the layer changes anything in this phase."""
        return self.training or self.transform_test

    def current_bias(self) -> float:
        """The bias in the pass that is running or was the last."""
        if self.bias_base is None:
            return self.bias
        step = self.iteration + max(0, self.passes - 1)
        bias = self.bias_base + (1 + self.bias_gamma * step) ** self.bias_power - 1
        return min(max(bias, self.bias_min), self.bias_max)

    def forward(self, x: Tensor, label: Tensor) -> list[Tensor]:
        self.passes += self.is_active
        return self.again(x, label)

    def again(self, x: Tensor, label: Tensor) -> list[Tensor]:
        bias = self.current_bias()
        if not self.is_active:
            y = x.clone()
        else:
            rows = as_rows(x)
            own = own_classes(rows, label)
            score = rows.gather(1, own)
            y = with_own_scores(x, own, score + bias * (score > -bias).to(score))
        return [y, x.new_full((1,), bias)][: self.top_count]
