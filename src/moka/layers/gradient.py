"""Layers that change nothing but the gradient, as adversarial training needs them."""

from __future__ import annotations

from math import exp
from typing import Any

from torch import Tensor
from torch.autograd import Function

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import Check, not_negative, option
from moka.layers.passes import PassCounter
from moka.layers.registry import layer
from moka.types import Shape

one_or_more = Check(lambda v: v >= 1, ">= 1")


class _Scaled(Function):
    """A copy of x, whose gradient is multiplied by a factor on its way to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def with_scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """A copy of x; `factor` times its gradient is that of x."""
    y: Tensor = _Scaled.apply(x, factor)  # type: ignore[no-untyped-call]
    return y


class _Substituted(Function):
    """A copy of a value, whose gradient is another tensor's."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0]


def with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """A copy of the value; its gradient is that of another tensor of its shape."""
    y: Tensor = _Substituted.apply(value, other)  # type: ignore[no-untyped-call]
    return y


@layer("GradientScaler", bottoms=1, tops=1, fork="DANN", coordinates="same", bfloat16="keeps")
class GradientScaler(PassCounter):
    """The gradient reversal of domain-adversarial training: the top is the bottom, the gradient is
    multiplied by -c.

    In TRAIN c rises from lower_bound towards upper_bound: c = 2 h / (1 + exp(-alpha p)) - h +
    lower_bound, with h = upper_bound - lower_bound and p = min(1, t / max_iter) in pass t, counted
    from 0. The number of passes is kept in a solver's snapshots. With threshold_iter c is 0 up to
    that pass, and p = min(1, (t - threshold_iter) / (threshold_iter + max_iter)) after it. In TEST
    c is 1. With scale_factor the gradient is multiplied by that, in both phases, and all else does
    not count.

    Bottom: any shape. Top: the same. In-place works. Message: gradient_scaler_param. Ganin and
    Lempitsky, 2015.

    Errors: lower_bound above upper_bound; alpha below 0; max_iter below 1.

    The forks count a solver's iterations, which are fewer than passes where iter_size is above 1;
    for a net in TRAIN without a solver their c stays 1.
    """

    lower_bound: float = option()
    upper_bound: float = option()
    alpha: float = option(not_negative)
    max_iter: float = option(one_or_more)
    threshold_iter: int | None = option()
    scale_factor: float | None = option()

    def setup(self, x: Shape) -> None:
        if self.lower_bound > self.upper_bound:
            raise NetError(
                f"lower_bound must be <= upper_bound, got {self.lower_bound:g} and"
                f" {self.upper_bound:g}."
            )

    def factor(self) -> float:
        """What the gradient is multiplied by in the pass that is running or was the last."""
        if self.scale_factor is not None:
            return self.scale_factor
        if not self.training:
            return -1.0
        start = self.threshold_iter
        step = max(0, self.passes - 1) - (start or 0)
        if start is not None and step <= 0:
            return 0.0
        progress = min(1.0, step / ((start or 0) + self.max_iter))
        height = self.upper_bound - self.lower_bound
        return -(2 * height / (1 + exp(-self.alpha * progress)) - height + self.lower_bound)

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        return self.again(x)

    def again(self, x: Tensor) -> Tensor:
        return with_scaled_gradient(x, self.factor())


@layer("GradientReversal", bottoms=1, tops=1, fork="DANN", coordinates="same", bfloat16="keeps")
class GradientReversal(Layer):
    """The top is the bottom, the gradient is multiplied by -1. Any shape; in-place works. No
    message. Ganin and Lempitsky, 2015."""

    def forward(self, x: Tensor) -> Tensor:
        return with_scaled_gradient(x, -1.0)
