"""Layers that normalize by statistics: those that are stored, or the batch's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.dims import require_fixed
from moka.export.onnx.table import exports
from moka.layers.batch_norm import STATISTICS, BatchNorm
from moka.layers.bn import BN


@exports(BatchNorm)
def export_batch_norm(site: Site, layer: BatchNorm, x: Value) -> str:
    compute = _with_the_batch if layer.use_global_stats is False else _with_the_sums
    y = compute(site, layer, x)
    return site.add("Relu", y) if layer.relu or layer.fused_relu else y


def _with_the_sums(site: Site, layer: BatchNorm, x: Value) -> str:
    mean, variance, weight, *learned = layer.blobs
    factor = torch.where(weight == 0, 0.0, 1 / weight)
    mean, variance, eps = mean * factor, variance * factor, layer.eps
    if layer.disable_mean:
        mean = torch.zeros_like(mean)
    if layer.disable_variance:
        variance, eps = torch.ones_like(variance), 0.0
    scale = learned[0] if layer.has_scale else torch.ones_like(mean)
    shift = learned[1] if layer.has_bias else torch.zeros_like(mean)
    return normalized(site, x.name, (scale, shift, mean, variance), eps)


def _with_the_batch(site: Site, layer: BatchNorm, x: Value) -> str:
    """x normalized with its own statistics; with stats_batch_size a few items at a time."""
    learned, axes = layer.blobs[STATISTICS:], len(x.dims)
    size, images = layer.stats_batch_size, x.dims[0]
    if size > 0:
        require_fixed(images)
    if not 0 < size < images:
        center, divide = not layer.disable_mean, not layer.disable_variance
        return by_the_batch(site, x.name, axes, layer.eps, learned, center=center, divide=divide)
    sizes = [min(size, images - first) for first in range(0, images, size)]
    parts = site.add_several("Split", x.name, site.ints(*sizes), outputs=len(sizes), axis=0)
    done = [by_the_batch(site, part, axes, layer.eps, learned) for part in parts]
    return site.add("Concat", *done, axis=0)


def by_the_batch(
    site: Site,
    x: str,
    axes: int,
    eps: float,
    learned: Sequence[Tensor] = (),
    *,
    center: bool = True,
    divide: bool = True,
) -> str:
    """Each channel of x (N, C, ...) less its mean, divided by its deviation, times the first of
    `learned` plus the second.

    Args:
        axes: of x.
    """
    across = [0, *range(2, axes)]
    if center:
        x = site.add("Sub", x, site.reduce("ReduceMean", x, across, keep=True))
    if divide:
        variance = site.reduce("ReduceMean", site.add("Mul", x, x), across, keep=True)
        x = site.add("Div", x, site.add("Sqrt", site.scaled(variance, 1.0, eps)))
    for op, values in zip(("Mul", "Add"), learned, strict=False):
        flat = values.detach().reshape(-1, *(1,) * (axes - 2))
        x = site.add(op, x, site.constant(flat, "scale" if op == "Mul" else "shift"))
    return x


@exports(BN)
def export_bn(site: Site, layer: BN, x: Value) -> str:
    if layer.top_count > 1:
        raise NetError("the statistics of a batch are not exported: leave out all tops but one.")
    scale, shift = layer.blobs[:2]
    if layer.form == "scale_shift" and layer.bn_mode == "INFERENCE":
        given = (scale, shift, torch.zeros_like(scale), torch.ones_like(scale))
        return normalized(site, x.name, given, 0.0)
    flat = x if layer.whole else site.reshaped(x, (x.dims[0], layer.blobs[0].numel()))
    perm = list(range(len(flat.dims)))
    perm[1], perm[layer.channel_axis] = perm[layer.channel_axis], 1
    turned = layer.whole and layer.channel_axis != 1
    y = site.add("Transpose", flat.name, perm=perm) if turned else flat.name
    if layer.uses_averages():
        mean, variance = layer.stored()
        y = normalized(site, y, (scale, shift, mean, variance), layer.used_eps)
    else:
        y = by_the_batch(site, y, len(flat.dims), layer.used_eps, (scale, shift))
    y = site.add("Transpose", y, perm=perm) if turned else y
    return site.reshape(flat._replace(name=y), x.dims)


def normalized(
    site: Site, x: str, values: tuple[Tensor, Tensor, Tensor, Tensor], eps: float
) -> str:
    """y = scale (x - mean) / sqrt(variance + eps) + shift, for each channel."""
    names = ("scale", "shift", "mean", "variance")
    flat = (value.detach().reshape(-1) for value in values)
    given = (site.constant(value, name) for name, value in zip(names, flat, strict=True))
    return site.add("BatchNormalization", x, *given, epsilon=eps)
