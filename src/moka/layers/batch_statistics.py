"""Normalization of each channel with the mean and the variance of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Takes one row of numbers and returns a table with the row of every process, in the order of rank.
Gather = Callable[[Tensor], Tensor]
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes


class Statistics(NamedTuple):
    """Mean and unbiased variance of each channel of a batch, both (C,), without a gradient; and how
    many values each of them is of."""

    mean: Tensor
    variance: Tensor
    number: Tensor | int


def over_channels(values: Tensor, x: Tensor) -> Tensor:
    """Values (C,), shaped so that they broadcast over x (N, C, ...)."""
    return values.reshape(-1, *(1,) * (x.dim() - 2))


def batch_norm(
    x: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    *,
    training: bool,
) -> Tensor:
    """PyTorch's batch norm of x (N, C, ...), with right gradients also for one item.

    Args:
        mean, variance: (C,), to normalize by; in training they are overwritten by the batch's own
            mean and unbiased variance.
    """
    if len(x) != 1:
        return torch.batch_norm(x, scale, bias, mean, variance, training, 1.0, eps, True)
    x = _with_plain_strides(x)
    y = torch.batch_norm(x, scale, bias, mean, variance, training, 1.0, eps, True)
    if y.requires_grad:
        y.register_hook(_gradient_with_plain_strides)  # type: ignore[no-untyped-call]
    return y


def _gradient_with_plain_strides(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else _with_plain_strides(grad)  # None: no loss depends on it


def _with_plain_strides(x: Tensor) -> Tensor:
    """One item (1, C, ...), a copy if its channels lie last and its first stride is not its size.

    A view of one item may have such strides. PyTorch's gradient of batch norm (2.6 to 2.14) takes
    them for row-major, and is wrong if the item or the gradient that comes has them.
    """
    layout = _CHANNELS_LAST.get(x.dim())
    if layout is None or x.stride(0) == x.numel() or not x.is_contiguous(memory_format=layout):
        return x
    return x.clone(memory_format=layout)


def normalize_by_batch(
    x: Tensor,
    eps: float,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    gather: Gather | None = None,
) -> tuple[Tensor, Statistics]:
    """(x - mean) / sqrt(variance + eps) * scale + bias for each channel of x (N, C, ...), with the
    batch's own mean and biased variance; scale and bias (C,).

    Args:
        gather: how to hear the other processes, if mean and variance are those of the batches of
            all of them together.

    Statistics of half precision are float32.
    """
    least = torch.promote_types(x.dtype, torch.float32)
    if gather is not None:
        y, mean, unbiased, count = _NormalizedByAll.apply(x.to(least), eps, gather)  # type: ignore[no-untyped-call]
        return _scaled(y, scale, bias), Statistics(mean, unbiased, count)
    mean, unbiased = (x.new_zeros(x.shape[1], dtype=least) for _ in range(2))
    count = x.numel() // max(1, x.shape[1])
    if x.numel() > x.shape[1]:
        y = batch_norm(x, scale, bias, mean, unbiased, eps, training=True)
        return y, Statistics(mean, unbiased, count)
    y = x - x  # each value is its own mean; PyTorch would round y and divide by 0
    if x.numel():
        mean.copy_(x.detach().reshape(-1))
    return _scaled(y, scale, bias), Statistics(mean, unbiased, count)


def _scaled(y: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    if scale is not None:
        y = y * over_channels(scale, y)
    return y if bias is None else y + over_channels(bias, y)


class _NormalizedByAll(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps), with the mean and variance of all processes' batches.

    Each process tells the count, the mean and the sum of squares around that mean of its own
    batch; they are put together without loss of digits (Chan et al., 1979). With n values of a
    channel in all, z = (x - mean) / s and sums over all processes, the gradient is
    dx = (dz - sum(dz) / n - z sum(dz z) / n) / s.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, eps: float, gather: Gather
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [k for k in range(x.dim()) if k != 1]
        count = x.numel() // max(1, x.shape[1])
        own = x.mean(axes) if count else x.new_zeros(x.shape[1])
        around_own = (x - over_channels(own, x)).square().sum(axes)
        table = gather(torch.cat([x.new_full((1,), count), own, around_own]))
        counts, means = table[:, :1], table[:, 1 : 1 + len(own)]
        squares = table[:, 1 + len(own) :]
        total = counts.sum()
        mean = (counts * means).sum(0) / total.clamp_min(1)
        square = (squares + counts * (means - mean).square()).sum(0)
        spread = square / total.clamp_min(1) + eps
        inverse = torch.where(spread > 0, spread.rsqrt(), 0.0)
        ctx.save_for_backward(x, mean, inverse, total)
        ctx.gather = gather
        y = (x - over_channels(mean, x)) * over_channels(inverse, x)
        unbiased = square / (total - 1).clamp_min(1)
        ctx.mark_non_differentiable(mean, unbiased, total)
        return y, mean, unbiased, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        x, mean, inverse, total = ctx.saved_tensors
        axes = [k for k in range(x.dim()) if k != 1]
        z = (x - over_channels(mean, x)) * over_channels(inverse, x)
        sums = ctx.gather(torch.cat([dy.sum(axes), (dy * z).sum(axes)])).sum(0) / total.clamp_min(1)
        of_dy, of_dy_z = sums.chunk(2)
        dx = dy - over_channels(of_dy, x) - z * over_channels(of_dy_z, x)
        return dx * over_channels(inverse, x), None, None


def normalize_in_part(
    x: Tensor, eps: float, *, center: bool, divide: bool
) -> tuple[Tensor, Statistics]:
    """`normalize_by_batch` without subtracting the mean, or without dividing.

    What is left out counts as 0 in the statistics; without a mean the variance is that around 0.
    """
    axes = [k for k in range(x.dim()) if k != 1]
    count = x.numel() // max(1, x.shape[1])
    nothing = x.new_zeros(x.shape[1])
    mean = x.mean(axes) if center and count else nothing
    y = x - over_channels(mean, x)
    variance = y.square().mean(axes) if divide and count else nothing
    if divide:
        y = y / over_channels((variance + eps).sqrt(), x)
    return y, Statistics(mean.detach(), variance.detach() * (count / max(1, count - 1)), count)


def normalize_parts_of_batch(
    x: Tensor, size: int, eps: float, scale: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, list[Statistics]]:
    """`normalize_by_batch` of `size` items at a time, and the statistics of each part."""
    parts = [normalize_by_batch(part, eps, scale, bias) for part in torch.split(x, size)]
    return torch.cat([y for y, _ in parts]), [found for _, found in parts]
