"""Layers that slide a learned kernel over the spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch

from moka.export.onnx.activation import rectified
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.dims import Dims
from moka.export.onnx.table import exports
from moka.layers.conv import Convolution, Deconvolution, Im2col
from moka.layers.depthwise import ConvolutionDepthwise, DepthwiseConvolution
from moka.layers.window import Window


@exports(Convolution, ConvolutionDepthwise, DepthwiseConvolution)
def export_convolution(site: Site, layer: Convolution, *bottoms: Value) -> list[str]:
    return [
        over_batch_axes(
            site, x, top, layer.channel_axis, lambda y: convolved(site, layer, "Conv", y)
        )
        for x, top in zip(bottoms, site.tops, strict=True)
    ]


@exports(Deconvolution)
def export_deconvolution(site: Site, layer: Deconvolution, *bottoms: Value) -> list[str]:
    return [
        over_batch_axes(
            site, x, top, layer.channel_axis, lambda y: convolved(site, layer, "ConvTranspose", y)
        )
        for x, top in zip(bottoms, site.tops, strict=True)
    ]


def convolved(site: Site, layer: Convolution, op: str, x: str) -> str:
    """Conv or ConvTranspose of (N, C, spatial...) with the layer's parameters, and its rectifier if
    it has one."""
    y = _convolved(site, layer, op, x)
    return y if layer.slope is None else rectified(site, y, layer.slope)


def _convolved(site: Site, layer: Convolution, op: str, x: str) -> str:
    parameters = site.weights()
    if not layer.windows:  # an inner product over the channels
        weight = site.changed_weight(0, layer.blobs[0][..., None])
        y = site.add("Unsqueeze", x, site.ints(2))
        y = site.add(op, y, weight, *parameters[1:], group=layer.group)
        return site.add("Squeeze", y, site.ints(2))
    return site.add(op, x, *parameters, group=layer.group, **window_attributes(layer.windows))


def window_attributes(windows: Sequence[Window]) -> dict[str, list[int]]:
    """The attributes of Conv for these windows."""
    return {
        "kernel_shape": [w.kernel for w in windows],
        "strides": [w.stride for w in windows],
        "pads": [w.pad for w in windows] * 2,
        "dilations": [w.dilation for w in windows],
    }


def over_batch_axes(
    site: Site, x: Value, top: Dims, channel_axis: int, compute: Callable[[str], str]
) -> str:
    """`compute` on x with all axes before the channels as one; the result has the dims `top`."""
    if channel_axis == 1:
        return compute(x.name)
    batch = x.dims[:channel_axis]
    sign = -1 if min(batch, default=1) < 0 else 1
    merged = sign * prod(abs(d) for d in batch)
    y = compute(site.reshape(x, (merged, *x.dims[channel_axis:])))
    return site.reshape(Value(y, (merged, *top[channel_axis:])), top)


@exports(Im2col)
def export_im2col(site: Site, layer: Im2col, x: Value) -> str:
    """A convolution of each channel by itself, with kernels that pick one pixel each."""
    channels, sizes = x.dims[layer.channel_axis], [w.kernel for w in layer.windows]
    kernels = torch.eye(prod(sizes)).reshape(-1, 1, *sizes)
    weight = site.constant(kernels.repeat(channels, *(1,) * (1 + len(sizes))), "picks")

    def compute(y: str) -> str:
        return site.add("Conv", y, weight, group=channels, **window_attributes(layer.windows))

    return over_batch_axes(site, x, site.tops[0], layer.channel_axis, compute)
