"""Layers that normalize by statistics, which in testing are known."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.batch_norm import STATISTICS, BatchNorm
from moka.layers.bn import BN


@exports(BatchNorm)
def export_batch_norm(site: Site, layer: BatchNorm, x: Value) -> str:
    if layer.use_global_stats is False:
        y = _with_the_batch(site, layer, x)
    else:
        mean, variance, weight = layer.blobs[:STATISTICS]
        factor = torch.where(weight == 0, 0.0, 1 / weight)
        mean, variance, eps = mean * factor, variance * factor, layer.eps
        if layer.disable_mean:
            mean = torch.zeros_like(mean)
        if layer.disable_variance:
            variance, eps = torch.ones_like(variance), 0.0
        learned = layer.blobs[STATISTICS:]
        scale = learned[0] if layer.has_scale else torch.ones_like(mean)
        shift = learned[1] if layer.has_bias else torch.zeros_like(mean)
        y = normalized(site, x.name, (scale, shift, mean, variance), eps)
    return site.add("Relu", y) if layer.relu or layer.fused_relu else y


@exports(BN)
def export_bn(site: Site, layer: BN, x: Value) -> str:
    fixed = layer.form == "slope_bias" or (layer.form == "scale_shift" and
                                           layer.bn_mode == "INFERENCE")  # fmt: skip
    if not fixed or layer.channel_axis != 1:
        raise NetError(
            "cannot be exported: only the forms with four blobs and with bn_mode: INFERENCE are."
        )
    scale, shift, *statistics = (blob.detach().reshape(-1) for blob in layer.blobs)
    if layer.form == "scale_shift":
        given = (scale, shift, torch.zeros_like(scale), torch.ones_like(scale))
        return normalized(site, x.name, given, 0.0)
    mean, variance = statistics
    return normalized(site, x.name, (scale, shift, mean, variance), layer.used_eps)


def normalized(
    site: Site, x: str, values: tuple[Tensor, Tensor, Tensor, Tensor], eps: float
) -> str:
    """y = scale (x - mean) / sqrt(variance + eps) + shift, for each channel."""
    names = ("scale", "shift", "mean", "variance")
    given = (
        site.constant(value.detach().reshape(-1), name)
        for name, value in zip(names, values, strict=True)
    )
    return site.add("BatchNormalization", x, *given, epsilon=eps)


def _with_the_batch(site: Site, layer: BatchNorm, x: Value) -> str:
    """x normalized with its own statistics."""
    if layer.has_scale or layer.in_part or layer.stats_batch_size > 0:
        raise NetError("cannot be exported: forks' options with the statistics of the batch.")
    axes = [0, *range(2, len(x.dims))]
    centered = site.add("Sub", x.name, site.reduce("ReduceMean", x.name, axes, keep=True))
    squares = site.add("Mul", centered, centered)
    variance = site.reduce("ReduceMean", squares, axes, keep=True)
    deviation = site.add("Sqrt", site.scaled(variance, 1.0, layer.eps))
    return site.add("Div", centered, deviation)
