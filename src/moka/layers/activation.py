"""Layers that apply a function to every element, and softmax. All may run in-place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.layers.base import Check, Layer, Shape, canonical_axis, param
from moka.layers.registry import layer


def relu(x: Tensor, *, negative_slope: float = 0.0) -> Tensor:
    """max(x, 0) + negative_slope * min(x, 0)."""
    return F.leaky_relu(x, negative_slope) if negative_slope else torch.relu(x)


@layer("ReLU", bottoms=1, tops=1)
class ReLU(Layer):
    """Rectified linear unit: y = max(x, 0) + negative_slope * min(x, 0).

    Bottom and top: any shape. Message: relu_param (`engine` changes nothing here). At 0 the
    gradient is negative_slope. Nair and Hinton, 2010.
    """

    negative_slope = param()
    engine = param()

    def forward(self, x: Tensor) -> Tensor:
        return relu(x, negative_slope=self.negative_slope)


@layer("Sigmoid", bottoms=1, tops=1)
class Sigmoid(Layer):
    """Logistic function: y = 1 / (1 + exp(-x)), in (0, 1).

    Bottom and top: any shape. Message: sigmoid_param (`engine` changes nothing here).
    """

    engine = param()

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


@layer("TanH", bottoms=1, tops=1)
class TanH(Layer):
    """Hyperbolic tangent: y = (1 - exp(-2x)) / (1 + exp(-2x)), in (-1, 1).

    Bottom and top: any shape. Message: tanh_param (`engine` changes nothing here).
    """

    engine = param()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


@layer("Dropout", bottoms=1, tops=1)
class Dropout(Layer):
    """In training, zero each element with chance dropout_ratio and scale the others by
    1 / (1 - dropout_ratio); in testing, nothing.

    Bottom and top: any shape. Message: dropout_param. Srivastava et al., 2014.

    Errors: a ratio outside of [0, 1).
    """

    dropout_ratio = param(Check(lambda v: 0 <= v < 1, "in [0, 1)"))

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout_ratio, self.training)


@layer("Softmax", bottoms=1, tops=1)
class Softmax(Layer):
    """Scores to probabilities along one axis: y = exp(x) / sum of exp(x).

    Bottom and top: (outer..., C, inner...) with the C classes along `axis`; each y in (0, 1), the
    sum over classes is 1. Message: softmax_param (`engine` changes nothing here).
    """

    engine = param()
    axis = param()

    def setup(self, x: Shape) -> None:
        self.class_axis = canonical_axis(self.axis, x)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x, self.class_axis)
