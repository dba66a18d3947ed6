"""Layers that bring values to a common scale."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import Check, not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes, require_axes
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


@layer("GRN", bottoms=1, tops=1, coordinates="same", fork="OpenVINO")
class GRN(Layer):
    """Divide each position by the L2 norm over its channels: y = x / sqrt(bias + sum of x^2).

    Bottom and top: (N, C, ...). Message: grn_param.

    Errors: a bottom with one axis; a bias below 0.
    """

    bias: float = option(not_negative)

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().sum(1, keepdim=True) + self.bias)


@layer("L2Normalize", bottoms=1, tops=1, coordinates="same", fork="C3D")
class L2Normalize(Layer):
    """Divide each item by its L2 norm: y = x / sqrt(sum of x^2 + 1e-7).

    Bottom and top: (N, ...). No message.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(1, x)
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        norm = (as_rows(x).square().sum(1) + 1e-7).sqrt()
        return x / norm.reshape(-1, *(1,) * (x.dim() - 1))


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
