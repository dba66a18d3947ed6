"""Layers that bring features to unit length."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.l2_normalize import (
    EPS,
    L2Norm,
    L2Normalization,
    Norm,
    Normalization,
    Normalize,
)

TINY = torch.finfo(torch.float32).tiny


@exports(Normalize)
def export_normalize(site: Site, layer: Normalize, x: Value) -> list[str]:
    if not layer.scaled:
        norm = _norm(site, layer, x)
        return [site.add("Div", x.name, norm), norm][: layer.top_count]
    axes = range(1, len(x.dims)) if layer.across_spatial else [1]
    squares = site.reduce("ReduceSum", site.add("Mul", x.name, x.name), axes, keep=True)
    norm = site.add("Sqrt", site.scaled(squares, 1.0, layer.eps))
    scale = layer.blobs[0]
    if not layer.channel_shared:
        scale = scale.reshape(-1, *(1,) * (len(x.dims) - 2))
    return [site.add("Mul", site.add("Div", x.name, norm), site.changed_weight(0, scale))]


def _norm(site: Site, layer: Normalize, x: Value) -> str:
    """The norm over the channels at each position, of caffe-windows."""
    if layer.normalize_type == "L1":
        total = site.reduce("ReduceSum", site.add("Abs", x.name), [1], keep=True)
        return site.add("Max", total, site.number(TINY))
    return _norm_over(site, x, [1])


@exports(Normalization, L2Normalization)
def export_normalization(site: Site, layer: Normalization, x: Value) -> str:
    return site.add("Div", x.name, _norm_over(site, x, range(1, len(x.dims))))


@exports(L2Norm)
def export_l2_norm(site: Site, layer: L2Norm, x: Value) -> str:
    norm = _norm_over(site, x, range(1, len(x.dims)))
    return site.add("Div", x.name, site.scaled(norm, 1.0, layer.eps))


@exports(Norm)
def export_norm(site: Site, layer: Norm, x: Value) -> str:
    return site.add("Div", x.name, site.scaled(_norm_over(site, x, [1]), 1.0, EPS))


def _norm_over(site: Site, x: Value, axes: Sequence[int]) -> str:
    """The L2 norm over these axes, which stay with size 1; never 0."""
    squares = site.add("Mul", x.name, x.name)
    if axes:
        squares = site.reduce("ReduceSum", squares, axes, keep=True)
    return site.add("Sqrt", site.add("Max", squares, site.number(TINY)))
