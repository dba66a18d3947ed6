"""Layers that weight the channels or the positions of an image."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.channels import Axpy, ChannelScale


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
