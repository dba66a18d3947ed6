"""Functions of each element that only forks have."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from moka.layers.base import Layer
from moka.layers.limits import limited
from moka.layers.registry import DrawStyle, layer

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
        return x * limited(x / 6 + 0.5, 0, 1)
