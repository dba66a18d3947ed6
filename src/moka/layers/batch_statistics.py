"""Normalization of each channel with the mean and the variance of a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Statistics(NamedTuple):
    """Mean and unbiased variance of each channel of a batch, both (C,), without a gradient."""

    mean: Tensor
    variance: Tensor


def over_channels(values: Tensor, x: Tensor) -> Tensor:
    """Values (C,), shaped so that they broadcast over x (N, C, ...)."""
    return values.reshape(-1, *(1,) * (x.dim() - 2))


def normalize_by_batch(
    x: Tensor, eps: float, scale: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """(x - mean) / sqrt(variance + eps) * scale + bias for each channel of x (N, C, ...), with the
    batch's own mean and biased variance; scale and bias (C,)."""
    mean, unbiased = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    if x.numel() > x.shape[1]:
        # With a momentum of 1 the running statistics are the batch's.
        y = torch.batch_norm(x, scale, bias, mean, unbiased, True, 1.0, eps, True)
        return y, Statistics(mean, unbiased)
    y = x - x  # each value is its own mean; PyTorch would round y and divide by 0
    if x.numel():
        mean.copy_(x.detach().reshape(-1))
    if scale is not None:
        y = y * over_channels(scale, x)
    if bias is not None:
        y = y + over_channels(bias, x)
    return y, Statistics(mean, unbiased)


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
    return y, Statistics(mean.detach(), variance.detach() * (count / max(1, count - 1)))


def normalize_parts_of_batch(
    x: Tensor, size: int, eps: float, scale: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """`normalize_by_batch` of `size` items at a time; the statistics are the means over parts."""
    parts = [normalize_by_batch(part, eps, scale, bias) for part in torch.split(x, size)]
    means, variances = zip(*(found for _, found in parts), strict=True)
    return (
        torch.cat([y for y, _ in parts]),
        Statistics(torch.stack(means).mean(0), torch.stack(variances).mean(0)),
    )
