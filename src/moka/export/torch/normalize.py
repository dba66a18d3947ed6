"""Layers that divide by a norm or by a deviation."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from moka.errors import NetError
from moka.export.torch.table import writes
from moka.export.torch.writer import Bottom, ModuleSite, number
from moka.layers.l2_normalize import EPS

SMALLEST = torch.finfo(torch.float32).tiny


@writes("LRN")
def write_lrn(site: ModuleSite) -> str:
    x, size = site.bottoms[0], site.option("local_size")
    alpha, beta = number(site.option("alpha")), number(site.option("beta"))
    if site.option("norm_region") == "WITHIN_CHANNEL":
        mean = f"F.avg_pool2d({x}.square(), {size}, 1, {(size - 1) // 2})"
        return f"{x} * (1 + {alpha} * {mean}) ** -{beta}"
    return f"F.local_response_norm({x}, {size}, {alpha}, {beta}, {number(site.option('k'))})"


@writes("GRN")
def write_grn(site: ModuleSite) -> str:
    x = site.bottoms[0]
    return f"{x} * ({x}.square().sum(1, keepdim=True) + {number(site.option('bias'))}).rsqrt()"


@writes("L2Normalize")
def write_l2_normalize(site: ModuleSite) -> str:
    x = site.bottoms[0]
    return f"{x} / ({_squares_of_items(x)} + 1e-07).sqrt()"


def _squares_of_items(x: Bottom) -> str:
    """The sum of the squares of each item."""
    axes = tuple(range(1, len(x.shape)))
    return f"{x}.square()" + (f".sum({axes}, keepdim=True)" if axes else "")


@writes("BatchNorm", "MKLBatchNorm")
def write_batch_norm(site: ModuleSite) -> str:
    return batch_norm(site, None)


def batch_norm(site: ModuleSite, scale: ModuleSite | None) -> str:
    """A BatchNorm layer, and the Scale layer behind it if there is one, as one module."""
    mean, variance, weight = (blob.detach() for blob in list(site.layer.blobs)[:3])
    if site.option("use_global_stats") is False:
        raise NetError("use_global_stats: false takes the statistics of the batch in testing too.")
    factor = torch.where(weight == 0, 0.0, 1 / weight)
    mean, variance, eps = mean * factor, variance * factor, float(site.option("eps"))
    if site.option("disable_mean"):
        mean = torch.zeros_like(mean)
    if site.option("disable_variance"):
        variance, eps = torch.ones_like(variance), 0.0
    own = list(site.layer.blobs)[3:] if scale is None else list(scale.layer.blobs)
    share = 1 - site.option("moving_average_fraction")
    y = _by_channel(site, own, (mean, variance), eps, share)
    return f"F.relu({y})" if site.option("relu") or site.option("fused_relu") else y


def _by_channel(
    site: ModuleSite,
    learned: list[Tensor],
    statistics: tuple[Tensor, Tensor],
    eps: float,
    share: float,
) -> str:
    """A module that normalizes channels by known statistics.

    Args:
        learned: blobs of scale and bias, of scale only, or none.
        share: of a batch in the running statistics.
    """
    (x,) = site.bottoms
    axes = max(len(x.shape) - 2, 1)
    if axes > 3:
        raise NetError(f"PyTorch normalizes up to three axes after the channels, got {axes}.")
    call = site.module(
        f"BatchNorm{axes}d",
        x.shape[1],
        eps=eps,
        momentum=round(share, 6),
        affine=None if learned else False,
    )
    for key, values in zip(("running_mean", "running_var"), statistics, strict=True):
        site.hold(key, values.detach().reshape(-1))
    site.hold("num_batches_tracked", torch.zeros((), dtype=torch.long))
    if learned:
        weight, *bias = learned
        site.hold("weight", weight.reshape(-1), weight)
        shift = bias[0] if bias else torch.zeros_like(weight)
        site.hold("bias", shift.reshape(-1), bias[0] if bias else None)
    return f"{call}({x})"


@writes("BN", "SyncBN")
def write_bn(site: ModuleSite) -> str:
    (x,) = site.bottoms
    if len(site.tops) > 1:
        raise NetError("the statistics of a batch are not exported: leave out all tops but one.")
    form, blobs = site.option("form"), list(site.layer.blobs)
    if site.option("channel_axis") != 1 or not site.option("whole"):
        raise NetError("only statistics of channels at axis 1 have a short form in PyTorch.")
    if form == "scale_shift" and site.option("bn_mode") == "INFERENCE":
        scale, shift = (
            site.parameter(key, blob.reshape(-1, *_ones(x.shape)), blob)
            for key, blob in zip(("weight", "bias"), blobs, strict=True)
        )
        return f"{x} * {scale} + {shift}"
    if form == "slope_bias" or (form == "moving_average" and site.option("moving_average")):
        if len(blobs) < 4:
            raise NetError("the averages of mean and variance are not among the layer's blobs.")
        share = 1 - site.option("momentum") if form == "slope_bias" else site.option("decay")
        return _by_channel(site, blobs[:2], (blobs[2], blobs[3]), site.option("used_eps"), share)
    scale, shift = (
        site.parameter(key, blob.reshape(-1), blob)
        for key, blob in zip(("weight", "bias"), blobs[:2], strict=True)
    )
    eps = number(site.option("used_eps"))
    return f"F.batch_norm({x}, None, None, {scale}, {shift}, True, eps={eps})"


@writes("Normalization", "L2Normalization")
def write_normalization(site: ModuleSite) -> str:
    x = site.bottoms[0]
    return f"{x} / {_norm_of_items(x)}"


@writes("L2Norm")
def write_l2_norm(site: ModuleSite) -> str:
    x, eps = site.bottoms[0], site.option("eps")
    norm = _norm_of_items(x)
    return f"{x} / ({norm} + {number(eps)})" if eps else f"{x} / {norm}"


def _norm_of_items(x: Bottom) -> str:
    return f"{_squares_of_items(x)}.clamp(min={number(SMALLEST)}).sqrt()"


@writes("Norm")
def write_norm(site: ModuleSite) -> str:
    x = site.bottoms[0]
    return f"{x} / ({x}.norm(2, 1, keepdim=True) + {number(EPS)})"


@writes("MVN")
def write_mvn(site: ModuleSite) -> str:
    x = site.bottoms[0]
    axes = "(1, 2, 3)" if site.option("across_channels") else "(2, 3)"
    if len(x.shape) != 4:
        raise NetError(f"only images (N, C, H, W) have a short form in PyTorch, got {x.shape}.")
    y = f"({x} - {x}.mean({axes}, keepdim=True))"
    if site.option("normalize_variance"):
        eps = number(site.option("eps"))
        y += f" / ({x}.std({axes}, correction=0, keepdim=True) + {eps})"
    return y


@writes("Normalize")
def write_normalize(site: ModuleSite) -> str | list[str]:
    x = site.bottoms[0]
    if not site.option("scaled"):
        power = 2 if site.option("normalize_type") == "L2" else 1
        eps = number(sqrt(SMALLEST) if power == 2 else SMALLEST)
        y = f"F.normalize({x}, {power}, 1, eps={eps})"
        return [y, f"{x}.norm({power}, 1, keepdim=True)"][: len(site.tops)]
    axes = tuple(range(1, len(x.shape))) if site.option("across_spatial") else (1,)
    (scale,) = site.layer.blobs
    wide = scale if site.option("channel_shared") else scale.reshape(-1, *_ones(x.shape))
    factor = site.parameter("scale", wide, scale)
    eps = number(site.option("eps"))
    return f"{x} / ({x}.square().sum({axes}, keepdim=True) + {eps}).sqrt() * {factor}"


def _ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of size 1 for those after the channels."""
    return (1,) * (len(shape) - 2)
