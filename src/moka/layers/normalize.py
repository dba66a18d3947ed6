"""Layers that bring values to a common scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.options import Check, not_negative, option
from moka.layers.pooling import Pooling
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, refuse_empty_axes, require_axes
from moka.schema import caffe_pb2
from moka.types import Shape

LRN_PART = 2 << 20  # elements
odd = Check(lambda v: v % 2 == 1, "odd")


def lrn_across_channels(x: Tensor, *, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """x (N, C, H, W) times (k + alpha / size * sum of squares over `size` channels) ^ -beta.

    The sum runs over neighboring channels, clipped at the ends. Forward and backward take a sixth
    of the time of PyTorch's 3-D average pool, and two fifths of a product with a banded matrix (33
    ms, 204 and 90 for 24 MB on one thread).
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _LRN.apply(x, size, alpha, beta, k)  # type: ignore[no-untyped-call]
    return x * _power(_lrn_divisor(x, size, alpha, k), beta)


class _LRN(Function):
    """y = x d^-beta with d = k + a S(x^2), S the sum over channels and a = alpha / size.

    Its gradient is g d^-beta - 2 a beta x S(g x d^(-beta - 1)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        y, divisor = torch.empty_like(x), torch.empty_like(x)
        for part, under, top in zip(*map(_parts, (x, divisor, y)), strict=True):
            under.copy_(_lrn_divisor(part, size, alpha, k))
            torch.mul(part, _power(under, beta), out=top)
        ctx.save_for_backward(x, divisor)
        ctx.size, ctx.beta, ctx.pull = size, beta, -2 * alpha / size * beta
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, divisor = ctx.saved_tensors
        found = torch.empty_like(x)
        for part, under, g, out in zip(*map(_parts, (x, divisor, grad, found)), strict=True):
            factor = _power(under, ctx.beta)
            pull = _sum_of_neighbors((g * part).mul_(factor).div_(under), ctx.size).mul_(part)
            torch.mul(g, factor, out=out).add_(pull, alpha=ctx.pull)
        return found, None, None, None, None


def _parts(x: Tensor) -> Sequence[Tensor]:
    """Items of a batch that are normalized together: on a CPU some megabytes, so that the results
    between, six times as large, take little memory."""
    if x.device.type != "cpu" or not x.numel():
        return [x]
    return torch.split(x, max(1, LRN_PART // x[0].numel()))


def _lrn_divisor(x: Tensor, size: int, alpha: float, k: float) -> Tensor:
    return _sum_of_neighbors(x.square(), size).mul_(alpha / size).add_(k)


def _power(x: Tensor, beta: float) -> Tensor:
    """x ^ -beta; by roots for the beta that all published nets have, in half of the time."""
    if beta == 0.75:
        root = torch.rsqrt(x)
        return root.sqrt().mul_(root)
    return x.pow(-beta)


def _sum_of_neighbors(x: Tensor, size: int) -> Tensor:
    """The sum over `size` (odd) channels around each of x (N, C, H, W), clipped at the ends."""
    side = (size - 1) // 2
    return _window_sum(F.pad(x, (0, 0, 0, 0, side, side)), size)


def _window_sum(x: Tensor, size: int) -> Tensor:
    """The sum over each channel and the size - 1 after it, from sums over half as many."""
    if size == 1:
        return x
    half = size // 2
    sums, count = _window_sum(x, half), x.shape[1] - 2 * half + 1
    total = sums[:, :count] + sums[:, half : half + count]
    return total[:, : count - 1] + x[:, 2 * half :] if size % 2 else total


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

    OpenCL branch: `fuse_type: FUSED_POOL_MAX` pools the result as the Pooling layer that
    `pooling_param` inside lrn_param describes; the top has its shape.

    Errors: an even local_size; a bottom that is not 4-D; those of Pooling.
    """

    kept_for_gradient = 1  # the divisor

    local_size: int = option(odd)
    alpha: float = option()
    beta: float = option()
    norm_region: str = option()
    k: float = option()
    engine: str = option()
    fuse_type: str = option()
    pooling_param: caffe_pb2.PoolingParameter = option()

    def setup(self, x: Shape) -> None:
        self.pool: Pooling | None = None
        if self.fuse_type == "FUSED_POOL_MAX":
            config = caffe_pb2.LayerParameter(type="Pooling", phase=self.config.phase, top=["top"])
            config.pooling_param.CopyFrom(self.pooling_param)
            self.pool = Pooling(config, x)

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"Input must have 4 axes, corresponding to (num, channels, height,"
                           f" width), got shape {x}.")  # fmt: skip
        refuse_empty_axes(x, first=1)
        return [x] if self.pool is None else list(self.pool.top_shapes(x))

    def forward(self, x: Tensor) -> Tensor:
        y = self.normalized(x)
        return y if self.pool is None else self.pool(y)

    def normalized(self, x: Tensor) -> Tensor:
        """The bottom divided, before a pooling."""
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


RATE = 0.01  # of a new mean in the average of MovingNormalize


@layer(
    "MovingNormalize",
    bottoms=1,
    tops=(1, 2),
    coordinates="same",
    state_blobs=1,
    fork="caffe-windows",
)
class MovingNormalize(Layer):
    """Divide by a running mean of the L2 norm over channels: y = x / m.

    m is the mean over all positions of sqrt(sum of x^2 over the channels + 1e-12) in the first
    pass, then 0.99 m + 0.01 times the new mean; it moves in every pass, in testing too. The
    gradient takes m as a constant.

    Bottom: (N, C, ...). Tops: the same shape; optionally m (1,). Blob: m (1,), -1 at first; no
    solver trains it. No message.

    Errors: a bottom with one axis.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        return [x, (1,)][: self.top_count]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        yield BlobSpec((1,), caffe_pb2.FillerParameter(value=-1), "norm")

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            norm = self.blobs[0]
            if x.numel():
                new = (x.square().sum(1) + 1e-12).sqrt().mean()
                norm.copy_(torch.where(norm < 0, new, (1 - RATE) * norm + RATE * new))
        return self.again(x)

    def again(self, x: Tensor) -> Sequence[Tensor]:
        norm = self.blobs[0].detach().clone()
        return [x / norm, norm][: self.top_count]
