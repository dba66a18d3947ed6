"""Functions of each element that only forks have."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from moka.layers.base import Layer
from moka.layers.limits import limited
from moka.layers.registry import DrawStyle, layer

STYLE = DrawStyle("#90EE90")
STEEPEST = 0.03  # added to the root before the gradient is divided by it


@layer("Mish", bottoms=1, tops=1, coordinates="same", fork="YOLO on Caffe", drawn=STYLE)
class Mish(Layer):
    """y = x tanh(ln(1 + exp(x))), element by element. No message. Misra, 2019."""

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(x)


@layer(
    "HardSwish",
    bottoms=1,
    tops=1,
    coordinates="same",
    aliases=("HSwish",),
    fork="MobileNet v3",
    drawn=STYLE,
)
class HardSwish(Layer):
    """y = x min(max(x / 6 + 0.5, 0), 1), element by element. No message. Howard et al., 2019."""

    def forward(self, x: Tensor) -> Tensor:
        return x * limited(x / 6 + 0.5, 0, 1)


class _SignedSqrt(Function):
    """sign(x) |x|^(1/2), whose gradient stays finite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.abs().sqrt().copysign(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grads[0] / (2 * (y.abs() + STEEPEST))


@layer(
    "SignedSqrt",
    bottoms=1,
    tops=1,
    coordinates="same",
    fork="compact bilinear pooling",
    drawn=STYLE,
)
class SignedSqrt(Layer):
    """y = sign(x) |x|^(1/2), element by element, which evens out what bilinear pooling gives.

    The gradient is the fork's, 1 / (2 |y| + 0.06), which is finite at 0. No message. Gao et al.,
    2016.
    """

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _SignedSqrt.apply(x)  # type: ignore[no-untyped-call]
        return y
