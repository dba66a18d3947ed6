"""Layers that are random in training."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.types import Shape

LARGEST = torch.finfo(torch.float32).max


@layer("Noise", bottoms=1, tops=1, message="noise_param", coordinates="same", fork="caffe-windows")
class Noise(Layer):
    """In training, add noise to each value; in testing, return the input unchanged.

    With gaussian_std the noise is normal with this deviation around `bias`, else with
    uniform_range r uniform between bias - r and bias + r. The gradient passes.

    Bottom and top: any shape. Message: noise_param.

    Errors: neither gaussian_std nor uniform_range; noise beyond float32.
    """

    gaussian_std: float | None = option(not_negative)
    uniform_range: float | None = option(not_negative)
    bias: float = option()

    def setup(self, x: Shape) -> None:
        if self.gaussian_std is None and self.uniform_range is None:
            raise NetError("noise_param needs gaussian_std or uniform_range.")
        around = self.uniform_range if self.gaussian_std is None else self.gaussian_std
        assert around is not None
        if not abs(self.bias) + 2 * around <= LARGEST:
            raise NetError(f"noise of {around:g} around {self.bias:g} is too large.")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x.clone()
        noise = torch.empty_like(x)
        if self.gaussian_std is not None:
            noise.normal_(self.bias, self.gaussian_std)
        else:
            around = self.uniform_range or 0.0
            noise.uniform_(self.bias - around, self.bias + around)
        return x + noise


@layer("Insanity", bottoms=1, tops=1, coordinates="same", fork="caffe-windows")
class Insanity(Layer):
    """Leaky rectifier whose slope is random in training: y = x for x > 0, else x / a.

    In training a is drawn for each value, uniform between lb and ub; in testing it is
    (ub - lb) / (ln |ub| - ln |lb|).

    Bottom and top: any shape. Message: insanity_param. At 0 the gradient is 1 / a. Xu et al., 2015
    (RReLU).

    Errors: ub is not above lb; a bound of 0; bounds of one size, -lb = ub.
    """

    lb: float = option()
    ub: float = option()

    def setup(self, x: Shape) -> None:
        is_range = self.lb < self.ub and self.ub - self.lb <= LARGEST
        if not is_range or not self.lb * self.ub or self.lb == -self.ub:
            raise NetError(
                f"insanity_param needs lb < ub, neither of them 0, nor lb = -ub; got lb"
                f" {self.lb:g} and ub {self.ub:g}."
            )
        self.divisor = (self.ub - self.lb) / (log(abs(self.ub)) - log(abs(self.lb)))

    def forward(self, x: Tensor) -> Tensor:
        divisor: Tensor | float = self.divisor
        if self.training:
            divisor = torch.empty_like(x).uniform_(self.lb, self.ub)
        return torch.where(x > 0, x, x / divisor)
