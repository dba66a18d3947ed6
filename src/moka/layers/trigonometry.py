"""Layers of angles: cosine and its inverse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.layers.base import Layer
from moka.layers.registry import layer

STEEPEST = 0.99  # the gradient of an arc cosine is computed at this or less


@layer("Cosine", bottoms=1, tops=1, coordinates="same", fork="caffe-windows")
class Cosine(Layer):
    """The cosine of each value, in radians: y = cos(x).

    Bottom and top: any shape. No message. The gradient is -sin(x) times the top's, which the fork
    forgets.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x)


class _ArcCosine(Function):
    """acos with a gradient that stays finite where x nears 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.acos(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return -grad * torch.rsqrt(1 - x.clamp_max(STEEPEST).square())


@layer("Arccos", bottoms=1, tops=1, coordinates="same", fork="caffe-windows")
class Arccos(Layer):
    """The angle of each cosine, in radians: y = acos(x); NaN outside of [-1, 1].

    Bottom and top: any shape. No message. The gradient is -1 / sqrt(1 - x^2), at min(x, 0.99).
    """

    def forward(self, x: Tensor) -> Tensor:
        return _ArcCosine.apply(x)  # type: ignore[no-untyped-call]
