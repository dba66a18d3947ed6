"""Layers that slide a learned kernel over the spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from moka.export.onnx.activation import rectified
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.dims import Dims
from moka.export.onnx.table import exports
from moka.layers.binary import BinaryConvolution
from moka.layers.conv import Convolution, Deconvolution, Im2col
from moka.layers.depthwise import ConvolutionDepthwise, DepthwiseConvolution
from moka.layers.surgery import CConvolution
from moka.layers.window import Window, covering


@exports(Convolution, ConvolutionDepthwise, DepthwiseConvolution, BinaryConvolution, CConvolution)
def export_convolution(site: Site, layer: Convolution, *bottoms: Value) -> list[str]:
    return [
        over_batch_axes(
            site,
            x,
            top,
            layer.channel_axis,
            partial(convolved, site, layer, "Conv", windows=_covering(layer, x)),
        )
        for x, top in zip(bottoms, site.tops, strict=True)
    ]


@exports(Deconvolution)
def export_deconvolution(site: Site, layer: Deconvolution, *bottoms: Value) -> list[str]:
    return [
        over_batch_axes(
            site,
            x,
            top,
            layer.channel_axis,
            partial(convolved, site, layer, "ConvTranspose", windows=layer.windows),
        )
        for x, top in zip(bottoms, site.tops, strict=True)
    ]


def _covering(layer: Convolution | Im2col, x: Value) -> list[Window]:
    return covering(layer.windows, x.dims[layer.channel_axis + 1 :])


def convolved(site: Site, layer: Convolution, op: str, x: str, *, windows: Sequence[Window]) -> str:
    """Conv or ConvTranspose of (N, C, spatial...) with the layer's parameters, and its rectifier if
    it has one."""
    y = slid(site, layer, op, x, layer.multiplied(), windows)
    return y if layer.slope is None else rectified(site, y, layer.slope)


def slid(
    site: Site,
    layer: Convolution,
    op: str,
    x: str,
    blobs: Sequence[Tensor],
    windows: Sequence[Window],
) -> str:
    """Conv or ConvTranspose of (N, C, spatial...) with these in place of the layer's parameters."""
    weight, *biases = blobs
    if not windows:  # an inner product over the channels
        x, weight = site.add("Unsqueeze", x, site.ints(2)), weight[..., None]
    parameters = [weight, *(bias.reshape(-1) for bias in biases)]
    names = [site.changed_weight(k, values) for k, values in enumerate(parameters)]
    attributes = window_attributes(windows) if windows else {}
    y = site.add(op, x, *names, group=layer.group, **attributes)
    return y if windows else site.add("Squeeze", y, site.ints(2))


def window_attributes(windows: Sequence[Window]) -> dict[str, list[int]]:
    """The attributes of Conv for these windows."""
    return {
        "kernel_shape": [w.kernel for w in windows],
        "strides": [w.stride for w in windows],
        "pads": [*(w.pad for w in windows), *(w.after for w in windows)],
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


@exports(Im2col, fixed_from=1)
def export_im2col(site: Site, layer: Im2col, x: Value) -> str:
    channels = x.dims[layer.channel_axis]
    return over_batch_axes(
        site,
        x,
        site.tops[0],
        layer.channel_axis,
        lambda y: columns_of(site, _covering(layer, x), y, channels),
    )


def columns_of(site: Site, windows: Sequence[Window], x: str, channels: int) -> str:
    """Every window of (N, C, spatial...) as a column: a convolution of each channel by itself, with
    kernels that pick one pixel each."""
    sizes = [w.kernel for w in windows]
    kernels = torch.eye(prod(sizes)).reshape(-1, 1, *sizes)
    weight = site.constant(kernels.repeat(channels, *(1,) * (1 + len(sizes))), "picks")
    return site.add("Conv", x, weight, group=channels, **window_attributes(windows))
