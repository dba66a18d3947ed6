"""Layers that leave out values by chance."""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.layers.base import Layer
from moka.layers.options import Check, option
from moka.layers.registry import layer
from moka.types import Shape

probability = Check(lambda v: 0 <= v < 1, "in [0, 1)")
up_to_one = Check(lambda v: 0 <= v <= 1, "in [0, 1]")


@layer("Dropout", bottoms=1, tops=1, coordinates="same", bfloat16="keeps")
class Dropout(Layer):
    """In training, set each element to 0 with probability dropout_ratio and multiply the others by
    1 / (1 - dropout_ratio). In testing, return the input unchanged.

    Bottom and top: any shape. Message: dropout_param. Srivastava et al., 2014.

    Forks: with `scale_train: false` (R-FCN) training leaves the others as they are and testing
    multiplies by 1 - dropout_ratio; `sqrt_scale: true` (caffe-windows) multiplies by the root of
    1 / (1 - dropout_ratio) in training; `sample_weights_test: true` (SegNet) makes testing like
    training.

    Errors: dropout_ratio is not in [0, 1]. With a ratio of 1, which debug builds of BVLC Caffe
    refuse, training gives 0; other builds make it NaN (0 times 1 / 0).
    """

    dropout_ratio: float = option(up_to_one)
    scale_train: bool = option()
    sqrt_scale: bool = option()
    sample_weights_test: bool = option()

    def setup(self, x: Shape) -> None:
        self.is_plain = self.scale_train and not self.sqrt_scale
        kept = 1 - self.dropout_ratio
        self.factor = sqrt(1 / kept) if self.sqrt_scale and kept else 1 / (kept or 1)
        if not self.scale_train:
            self.factor = 1.0

    @property
    def is_pure(self) -> bool:
        return not (self.training or self.sample_weights_test)

    def forward(self, x: Tensor) -> Tensor:
        kept = 1 - self.dropout_ratio
        if not (self.training or self.sample_weights_test):
            return x if self.scale_train else x * kept
        if self.is_plain and x.device.type != "cpu":
            return F.dropout(x, self.dropout_ratio)
        return (x * _drawn(x, kept)).mul_(self.factor)


def _drawn(x: Tensor, share: float) -> Tensor:
    """For each element of x whether it stays, with this probability.

    Uniform numbers are compared: on a CPU PyTorch draws them four times faster than booleans (3 %
    of a step of SqueezeNet).
    """
    return torch.rand_like(x, dtype=torch.float32) < share


@layer(
    "SpatialDropout", bottoms=1, tops=1, coordinates="same", bfloat16="keeps", fork="Intel Caffe"
)
class SpatialDropout(Layer):
    """In training, set whole channels of items to 0 with probability dropout_ratio and multiply the
    others by 1 / (1 - dropout_ratio). In testing, return the input unchanged.

    Bottom and top: (N, C, ...). Message: spatial_dropout_param. Tompson et al., 2015.

    Errors: dropout_ratio is not in [0, 1).
    """

    dropout_ratio: float = option(probability)

    def forward(self, x: Tensor) -> Tensor:
        return drop_channels(x, self.dropout_ratio) if self.training else x


def drop_channels(x: Tensor, ratio: float) -> Tensor:
    """Set channels of items of x (N, C, ...) to 0 with this probability, and scale the others."""
    kept = 1 - ratio
    mask = x.new_empty(*x.shape[:2], *(1,) * (x.dim() - 2)).bernoulli_(kept)
    return x * (mask / kept)
