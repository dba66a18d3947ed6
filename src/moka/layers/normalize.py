"""Layers that bring values to a common scale."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.options import Check, not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.schema import caffe_pb2
from moka.types import Shape

odd = Check(lambda v: v % 2 == 1, "odd")


def lrn_across_channels(x: Tensor, *, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """x (N, C, H, W) times (k + alpha / size * sum of squares over `size` channels) ^ -beta.

    The sum runs over neighboring channels, clipped at the ends. It is computed as a product of the
    squares with a banded C x C matrix, several times cheaper than PyTorch's 3-D average pool.
    """
    c = x.shape[1]
    index = torch.arange(c, device=x.device)
    band = ((index[:, None] - index).abs() <= (size - 1) // 2).to(x.dtype)
    squares = x.square().movedim(1, -1) @ (band * (alpha / size))
    return x * (squares.movedim(-1, 1) + k).pow(-beta)


def lrn_within_channel(x: Tensor, *, size: int, alpha: float, beta: float) -> Tensor:
    """x (N, C, H, W) times (1 + alpha * mean of squares in a size x size window) ^ -beta.

    Pixels outside the image count as 0; the window's area is always size * size.
    """
    mean = F.avg_pool2d(x.square(), size, 1, (size - 1) // 2)
    return x * (mean * alpha + 1).pow(-beta)


@layer("LRN", bottoms=1, tops=1, coordinates="same")
class LRN(Layer):
    """Local response normalization: y = x / (k + alpha / n * sum of squares) ^ beta.

    Bottom and top: (N, C, H, W). ACROSS_CHANNELS: the sum over n = local_size neighboring
    channels. WITHIN_CHANNEL: over a window of n x n pixels, with alpha / n^2 and k = 1.
    Message: lrn_param (`engine` has no effect here). Krizhevsky et al., 2012.

    Errors: an even local_size; a bottom that is not 4-D.
    """

    local_size: int = option(odd)
    alpha: float = option()
    beta: float = option()
    norm_region: str = option()
    k: float = option()
    engine: str = option()

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"Input must have 4 axes, corresponding to (num, channels, height,"
                           f" width), got shape {x}.")  # fmt: skip
        refuse_empty_axes(x, first=1)
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_region == "WITHIN_CHANNEL":
            return lrn_within_channel(x, size=self.local_size, alpha=self.alpha, beta=self.beta)
        return lrn_across_channels(
            x, size=self.local_size, alpha=self.alpha, beta=self.beta, k=self.k
        )


@layer(
    "BatchNorm",
    bottoms=1,
    tops=1,
    coordinates="same",
    state_blobs=3,
    other_counts={
        (5, 3): "NVCaffe wrote it, whose BatchNorm has scale and bias: set scale_bias: true.",
        (3, 5): "The file's BatchNorm has no scale and bias: leave scale_bias out.",
    },
)
class BatchNorm(Layer):
    """Bring each channel to mean 0 and variance 1: y = (x - mean) / sqrt(variance + eps).

    Bottom and top: (N, C, ...). Blobs, which no solver trains: running *sums* of the mean (C,) and
    of the unbiased variance (C,), and a scale factor (1,), the weight of the sums. Each training
    pass multiplies all three by moving_average_fraction, then adds the batch's mean and variance
    and 1. In testing (or as use_global_stats says) the layer normalizes with the sums divided by
    the scale factor; a scale factor of 0 means mean 0 and variance 0. Message: batch_norm_param.
    Ioffe and Szegedy, 2015. A Scale layer usually follows: unlike PyTorch's layer, this one has no
    factor and bias.

    Errors: a bottom with one axis, or with another number of channels than the blobs; a learning
    rate for the blobs.
    """

    use_global_stats: bool | None = option()
    moving_average_fraction: float = option()
    eps: float = option(not_negative)

    def setup(self, x: Shape) -> None:
        if len(x) < 2:
            raise NetError(f"needs a channel axis, got a bottom of shape {x}.")
        for spec in self.config.param:
            if spec.lr_mult != 0:
                raise NetError("Cannot configure batch normalization statistics as layer"
                               " parameters: drop the param entries.")  # fmt: skip
        self.channels = x[1]

    def top_shapes(self, x: Shape) -> list[Shape]:
        if x[1:2] != (self.channels,):
            raise NetError(
                f"there are statistics for {self.channels} channels, got a bottom of shape {x}."
            )
        return [x]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        zero = caffe_pb2.FillerParameter()
        yield BlobSpec((x[1],), zero, "mean")
        yield BlobSpec((x[1],), zero, "variance")
        yield BlobSpec((1,), zero, "scale_factor")

    def forward(self, x: Tensor) -> Tensor:
        if self._uses_the_sums():
            return self._with_the_sums(x)
        y, *statistics = self._with_the_batch(x)
        if x.numel():  # an empty batch has no statistics
            self._add_to_the_sums(*statistics)
        return y

    def again(self, x: Tensor) -> Tensor:
        return self._with_the_sums(x) if self._uses_the_sums() else self._with_the_batch(x)[0]

    def _uses_the_sums(self) -> bool:
        return not self.training if self.use_global_stats is None else self.use_global_stats

    def _with_the_sums(self, x: Tensor) -> Tensor:
        mean, variance, weight = (blob.detach() for blob in self.blobs)
        factor = torch.where(weight == 0, 0.0, 1 / weight)
        return F.batch_norm(x, mean * factor, variance * factor, training=False, eps=self.eps)

    def _with_the_batch(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x normalized with its own statistics; its mean; its unbiased variance."""
        mean, unbiased = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
        if x.numel() > x.shape[1]:
            # With a momentum of 1 the running statistics are the batch's.
            y = torch.batch_norm(x, None, None, mean, unbiased, True, 1.0, self.eps, True)
        else:  # Each value is its own mean. PyTorch would round y and divide by 0 for the variance.
            y = x - x
            if x.numel():
                mean.copy_(x.detach().reshape(-1))
        return y, mean, unbiased

    @torch.no_grad()
    def _add_to_the_sums(self, mean: Tensor, variance: Tensor) -> None:
        for total, new in zip(self.blobs, (mean, variance, torch.ones_like(mean[:1])), strict=True):
            total.mul_(self.moving_average_fraction).add_(new)


@layer("MVN", bottoms=1, tops=1, coordinates="same")
class MVN(Layer):
    """Bring each channel of each image (or each image) to mean 0 and standard deviation 1.

    y = (x - mean) / (std + eps): eps is added to the deviation. Bottom: up to 4 axes; top: 4-D.
    Message: mvn_param (`across_channels`: one mean for all channels of an image;
    `normalize_variance: false` only subtracts the mean). As in BVLC Caffe the gradient uses
    std + eps wherever the deviation occurs.

    Errors: a bottom of more than 4 axes.
    """

    normalize_variance: bool = option()
    across_channels: bool = option()
    eps: float = option(not_negative)

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) > 4:
            raise NetError(f"takes at most 4 axes, got shape {x}.")
        return [(*x, *(1,) * (4 - len(x)))]

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape, *(1,) * (4 - x.dim()))
        axes = 1 if self.across_channels else 2
        rows = x.reshape(prod(shape[:axes]), prod(shape[axes:]))
        centered = rows - rows.mean(1, keepdim=True)
        if self.normalize_variance:
            centered = _over_deviation(centered, self.eps)
        return centered.reshape(shape)


def _over_deviation(centered: Tensor, eps: float) -> Tensor:
    """Divide rows of mean 0 by d = std + eps. The gradient is Caffe's, which uses d wherever the
    deviation occurs: dx = (dy - y mean(y dy)) / d."""
    inverse = 1 / (centered.detach().square().mean(1, keepdim=True).sqrt() + eps)
    y = centered.detach() * inverse
    pull = (centered * y).mean(1, keepdim=True)
    return (centered - y * (pull - pull.detach())) * inverse
