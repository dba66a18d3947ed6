"""The loss of a softmax whose targets are probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.batch_statistics import over_channels
from moka.layers.gradient import with_gradient_of
from moka.layers.loss.log_likelihood import LOG_FLOOR
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import require_axes
from moka.types import Shape


@layer(
    "SoftmaxCrossEntropyLoss",
    bottoms=2,
    tops=1,
    is_loss=True,
    prediction="Softmax",
    fixed_bottoms=(1,),
    fork="mitmul's Caffe",
)
class SoftmaxCrossEntropyLoss(Layer):
    """Cross entropy of a softmax over the channels with given probabilities: the sum of -t log p,
    with p at least 1e-20, divided by N.

    Bottoms: scores (N, C, ...); the probabilities t of the same shape, no gradient. Top: a scalar.
    Message: softmax_cross_entropy_loss_param. `weights`, one a channel, multiply the terms. Scores
    of `zero_channel` count as 0 and take no gradient. The gradient of the scores is (p - t) / N,
    times the weight of its channel where no zero_channel is given.

    Errors: bottoms of different shapes; another number of weights; a zero_channel that is none.

    A few forks subtract the entropy of t under this name, which changes the loss but not its
    gradient.
    """

    factors: tuple[float, ...] = option(field="weights")  # a layer has weights of its own
    zero_channel: int = option()
    of_channels: Tensor  # their weights

    def setup(self, x: Shape, target: Shape) -> None:
        factors = torch.tensor(self.factors or [1.0] * (x[1] if len(x) > 1 else 0))
        self.register_buffer("of_channels", factors, persistent=False)

    def top_shapes(self, x: Shape, target: Shape) -> list[Shape]:
        require_axes(2, x)
        if x != target:
            raise NetError(f"the scores and their targets have different shapes: {x}, {target}.")
        if self.factors and len(self.factors) != x[1]:
            raise NetError(
                f"weights must be given once for each of {x[1]} channels, got {len(self.factors)}."
            )
        if self.zero_channel >= x[1]:
            raise NetError(f"zero_channel must be below {x[1]}, got {self.zero_channel}.")
        return [()]

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        channels = over_channels(torch.arange(x.shape[1], device=x.device), x)
        weights = self.of_channels.to(x.dtype).view_as(channels)
        scores = x.detach().where(channels != self.zero_channel, 0)
        p = torch.softmax(scores, 1)
        slopes = p - target
        if self.zero_channel < 0:
            slopes = slopes * weights
        else:
            slopes = slopes.where(channels != self.zero_channel, 0)
        items = max(1, len(x))
        loss = -(weights * target * p.clamp_min(LOG_FLOOR).log()).sum() / items
        return with_gradient_of(loss, (x * slopes).sum() / items)
