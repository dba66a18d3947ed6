"""Functions of each element that only forks have."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from moka.layers.activation import relu
from moka.layers.base import Layer, refuse_in_place
from moka.layers.limits import limited
from moka.layers.options import option, positive
from moka.layers.passes import PassCounter
from moka.layers.registry import DrawStyle, layer
from moka.layers.shapes import canonical_axis
from moka.types import Shape

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


@layer(
    "SeLU",
    bottoms=1,
    tops=1,
    coordinates="same",
    message="selu_param",
    fork="Synopsys Caffe",
    drawn=STYLE,
)
class SeLU(Layer):
    """Scaled exponential linear unit: y = lambda x for x > 0, else lambda alpha (exp(x) - 1).

    Bottom and top: any shape. Message: selu_param. Klambauer et al., 2017.
    """

    alpha: float = option()
    scale: float = option(field="lambda")  # a word that Python keeps to itself

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.elu(x, self.alpha)


@layer("CReLU", bottoms=1, tops=1, message="crelu_param", fork="Cambricon", drawn=STYLE)
class CReLU(Layer):
    """The rectified values of x and of -x, joined along `concat_axis`.

    Bottom: any shape. Top: twice as large along the axis. Message: crelu_param; negative_slope is
    that of both rectifiers. Shang et al., 2016.

    Errors: in-place use.

    Cambricon's layer has no gradient; here it is exact.
    """

    negative_slope: float = option()
    concat_axis: int = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        axis = canonical_axis(self.concat_axis, x)
        return [(*x[:axis], 2 * x[axis], *x[axis + 1 :])]

    def forward(self, x: Tensor) -> Tensor:
        halves = [relu(v, negative_slope=self.negative_slope) for v in (x, -x)]
        return torch.cat(halves, self.concat_axis)


class Sharpening(PassCounter):
    """Base of functions whose bottom is multiplied by a scale that grows while the net learns."""

    init_scale: float = option()
    step_size: int = option(positive)
    gamma: float = option()
    power: float = option()

    def scale(self) -> float:
        """The scale of the pass that is running or was the last."""
        count = self.passes + 1  # the fork counts the net's making, too
        step = count - count % self.step_size
        grown: float = (1 + self.gamma * step) ** self.power
        return self.init_scale * grown if step else self.init_scale


@layer("ScaleTanH", bottoms=1, tops=1, coordinates="same", fork="HashNet and DHN", drawn=STYLE)
class ScaleTanH(Sharpening):
    """y = tanh(s x), element by element, with an s that grows, so that codes become binary.

    s is init_scale, and from each pass t - 1 on with a t that is a multiple of step_size
    init_scale (1 + gamma t)^power. Passes count in both phases; a solver's snapshots keep their
    number, which the fork counts anew.

    Bottom and top: any shape. Message: scale_tanh_param. Cao et al., 2017 (HashNet).
    """

    def again(self, x: Tensor) -> Tensor:
        return torch.tanh(self.scale() * x)


@layer("SignDiffusion", bottoms=1, tops=1, coordinates="same", fork="HashNet and DHN", drawn=STYLE)
class SignDiffusion(Sharpening):
    """y = erf(s x), element by element, with the s of ScaleTanH.

    Bottom and top: any shape. Message: sign_diffusion_param. Cao et al., 2017 (HashNet).
    """

    def again(self, x: Tensor) -> Tensor:
        return torch.erf(self.scale() * x)
