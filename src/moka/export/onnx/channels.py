"""Layers that weight the channels or the positions of an image."""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.table import exports
from moka.layers.channels import Axpy, ChannelScale, EltwiseAffine, Maxout


@exports(Axpy)
def export_axpy(site: Site, layer: Axpy, a: Value, x: Value, y: Value) -> str:
    factor = site.reshape(a, (*x.dims[:2], *(1,) * (len(x.dims) - 2)))
    return site.add("Add", site.add("Mul", x.name, factor), y.name)


@exports(ChannelScale)
def export_channel_scale(site: Site, layer: ChannelScale, x: Value, scale: Value) -> list[str]:
    if layer.global_scale:
        least, most = layer.min_global_scale, layer.max_global_scale
        factor = site.constant(layer.blobs[0].detach().clamp(least, most), "factor")
    else:
        factor = site.reshape(scale, (x.dims[0], 1, *x.dims[2:]))
    y = site.add("Mul", x.name, factor) if layer.do_forward else x.name
    return [y, factor][: len(site.tops)]


@exports(Maxout, fixed_from=1)
def export_maxout(site: Site, layer: Maxout, x: Value) -> list[str]:
    n, c, h, w = x.dims
    groups = site.reshape(x, (n, c // layer.chgroup_sz, layer.chgroup_sz, h, w))
    kind = "Min" if layer.minout else "Max"
    best = site.reduce(f"Reduce{kind}", groups, [2], keep=False)
    if len(site.tops) == 1:
        return [best]
    member = site.add("Cast", site.add(f"Arg{kind}", groups, axis=2, keepdims=0), to=FLOAT)
    first = np.arange(c * h * w).reshape(1, -1, layer.chgroup_sz, h, w)[:, :, 0]
    return [best, site.add("Add", site.scaled(member, h * w), site.parts(first))]


@exports(EltwiseAffine)
def export_eltwise_affine(site: Site, layer: EltwiseAffine, x: Value) -> str:
    slope, bias = (
        site.changed_weight(k, blob.detach().reshape(-1, *(1,) * (len(x.dims) - 2)))
        for k, blob in enumerate(layer.blobs)
    )
    return site.add("Add", site.add("Mul", x.name, slope), bias)
