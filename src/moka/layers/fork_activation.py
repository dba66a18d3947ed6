"""Functions of each element that only forks have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import DrawStyle, layer
from moka.types import Shape

STYLE = DrawStyle("#90EE90")


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
        return x * (x / 6 + 0.5).clamp(0, 1)


@layer("Insanity", bottoms=1, tops=1, coordinates="same", fork="caffe-windows", drawn=STYLE)
class Insanity(Layer):
    """A leaky rectifier with random slopes: y = x for x > 0, else x / a.

    In training each element has an a of its own, drawn evenly from [lb, ub); else a is
    (lb + ub) / 2. Bottom and top: any shape. Message: insanity_param. Xu et al., 2015 (RReLU).

    Errors: bounds that are not 0 < lb <= ub.
    """

    lb: float = option()
    ub: float = option()

    def setup(self, x: Shape) -> None:
        if not 0 < self.lb <= self.ub:
            raise NetError(f"needs 0 < lb <= ub, got lb {self.lb:g} and ub {self.ub:g}.")

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            divisor = torch.empty_like(x).uniform_(self.lb, self.ub)
        else:
            divisor = x.new_tensor((self.lb + self.ub) / 2)
        return torch.where(x > 0, x, x / divisor)


@layer("Cosine", bottoms=1, tops=1, coordinates="same", fork="caffe-windows", drawn=STYLE)
class Cosine(Layer):
    """y = cos(x), element by element. No message. (The fork's own gradient forgets the top's.)"""

    def forward(self, x: Tensor) -> Tensor:
        return x.cos()


@layer("Arccos", bottoms=1, tops=1, coordinates="same", fork="caffe-windows", drawn=STYLE)
class Arccos(Layer):
    """y = arccos(x), element by element; NaN for x outside of [-1, 1]. No message."""

    def forward(self, x: Tensor) -> Tensor:
        return x.acos()
