"""Convolutions, and what becomes one: padding, and moves between space and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.table import imports
from moka.types import Array


class Sides(NamedTuple):
    """The padding at the beginning and at the end of each spatial axis."""

    begin: tuple[int, ...]
    end: tuple[int, ...]


class WindowOptions(NamedTuple):
    """Kernel, stride and dilation along each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]


def window_options(site: NodeSite, kernel: Sequence[int]) -> WindowOptions:
    """The window of a node whose kernel has these sizes."""
    ones = (1,) * len(kernel)
    return WindowOptions(
        tuple(kernel),
        tuple(site.attribute("strides", ones)),
        tuple(site.attribute("dilations", ones)),
    )


def sides(site: NodeSite, size: Sequence[int], window: WindowOptions) -> Sides:
    """The padding of a node whose window slides over images of this size."""
    axes = len(window.kernel)
    how = site.attribute("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(size, *window, strict=True)
        ]
        less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        return Sides(less, more) if how == "SAME_UPPER" else Sides(more, less)
    pads = tuple(site.attribute("pads", (0,) * 2 * axes)) if how == "NOTSET" else (0,) * 2 * axes
    return Sides(pads[:axes], pads[axes:])


def before_padding(site: NodeSite) -> tuple[MadeBlob, Sides | None]:
    """The first input, or what it was before a node padded its spatial axes with zeros."""
    node = site.maker(0)
    if node is None or node.op != "Pad":
        return site.blob(0), None
    pad = NodeSite(site.builder, node)
    padding = spatial_zeros(pad)
    return (site.blob(0), None) if padding is None else (pad.blob(0), padding)


def spatial_zeros(site: NodeSite) -> Sides | None:
    """The padding of a Pad node if it only adds zeros around images, else None."""
    begin, end, value = padding_of(site)
    rank = len(begin)
    spatial = rank > 2 and not any((*begin[:2], *end[:2]))
    if (
        value
        or site.attribute("mode", "constant") != "constant"
        or not spatial
        or min((*begin, *end)) < 0
    ):
        return None
    return Sides(begin[2:], end[2:])


def padding_of(site: NodeSite) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """Padding at the begin and the end of each axis, and its value, of a Pad node."""
    rank = len(site.blob(0).shape)
    name = "paddings" if "paddings" in site.node.attributes else "pads"
    pads = [int(p) for p in site.setting(name, 1)]
    value = site.setting("value", 2, 0.0)
    value = float(np.asarray(value).reshape(-1)[0]) if np.size(value) else 0.0
    axes = site.constant(3)
    if axes is None:
        return tuple(pads[:rank]), tuple(pads[rank:]), value
    begin, end = [0] * rank, [0] * rank
    for k, axis in enumerate(axes.tolist()):
        begin[axis], end[axis] = pads[k], pads[k + len(axes)]
    return tuple(begin), tuple(end), value


def window_fields(name: str, values: Sequence[int], default: int | None = None) -> dict[str, Any]:
    """The fields of a window option: one for all axes, _h and _w for two, else one for each."""
    if all(v == default for v in values):
        return {}
    if len(set(values)) == 1:
        return {name: values[0]}
    if len(values) == 2 and name != "dilation":
        stem = name.removesuffix("_size")
        return {f"{stem}_h": values[0], f"{stem}_w": values[1]}
    return {name: list(values)}


def convolve(
    site: NodeSite,
    x: MadeBlob,
    weight: Array,
    bias: Array | None = None,
    *,
    padding: Sides,
    window: WindowOptions,
    group: int = 1,
    learned: bool = True,
    part: str = "convolution",
) -> MadeBlob:
    """A Convolution. Where the padding differs between two sides of an axis, zeros on one side of
    the kernel make up for it.

    Args:
        weight: (outputs, inputs / group, kernel...).
    """
    pads, extra = [], []
    for begin, end, dilation in zip(*padding, window.dilation, strict=True):
        pad = max(begin, end)
        if min(begin, end) < 0 or (end - begin) % dilation:
            raise NetError(f"padding of {begin} and {end} with dilation {dilation} has no form in"
                           " Caffe, which pads both sides alike.")  # fmt: skip
        pads.append(pad)
        extra.append(((pad - begin) // dilation, (pad - end) // dilation))
    weight = _with_zeros(weight, extra)
    return _sliding(
        site, "Convolution", x, weight, bias, weight.shape[0], pads, window, group, learned, part
    )


def deconvolve(
    site: NodeSite,
    x: MadeBlob,
    weight: Array,
    bias: Array | None = None,
    *,
    cropping: Sides,
    window: WindowOptions,
    group: int = 1,
    learned: bool = True,
    part: str = "deconvolution",
) -> MadeBlob:
    """A Deconvolution. Where it crops two sides of an axis differently, zeros on one side of the
    kernel make up for it.

    Args:
        weight: (inputs, outputs / group, kernel...).
    """
    pads, extra = [], []
    for begin, end, dilation in zip(*cropping, window.dilation, strict=True):
        pad = max(begin, end, 0)
        while (pad - begin) % dilation or (pad - end) % dilation:
            pad += 1
            if pad > max(begin, end, 0) + dilation:
                raise NetError(f"padding of {begin} and {end} with dilation {dilation} has no form"
                               " in Caffe, which pads both sides alike.")  # fmt: skip
        pads.append(pad)
        extra.append(((pad - begin) // dilation, (pad - end) // dilation))
    weight = _with_zeros(weight, extra)
    outputs = weight.shape[1] * group
    return _sliding(
        site, "Deconvolution", x, weight, bias, outputs, pads, window, group, learned, part
    )


def _with_zeros(weight: Array, extra: Sequence[tuple[int, int]]) -> Array:
    """Kernels with zeros around them; the same memory if there are none to add."""
    return np.pad(weight, [(0, 0), (0, 0), *extra]) if any(map(any, extra)) else weight


def _sliding(
    site: NodeSite,
    type_name: str,
    x: MadeBlob,
    weight: Array,
    bias: Array | None,
    outputs: int,
    pads: Sequence[int],
    window: WindowOptions,
    group: int,
    learned: bool,
    part: str,
) -> MadeBlob:
    options = {
        "num_output": outputs,
        **({} if bias is not None else {"bias_term": False}),
        **window_fields("pad", pads, 0),
        **window_fields("kernel_size", weight.shape[2:]),
        **({"group": group} if group != 1 else {}),
        **window_fields("stride", window.stride, 1),
        **window_fields("dilation", window.dilation, 1),
    }
    if site.builder.extra_layers and type_name == "Convolution" and group == outputs > 1:
        type_name = "DepthwiseConvolution" if group == x.shape[1] else type_name
    return site.add(
        type_name,
        x,
        blobs=[weight] if bias is None else [weight, bias],
        learned=learned,
        part=part,
        convolution_param=options,
    )


@imports("Conv")
def import_conv(site: NodeSite) -> None:
    weight = site.weights(1)
    window = window_options(site, weight.shape[2:])
    x, padded = before_padding(site)
    padding = sides(site, site.blob(0).shape[2:], window)
    if padded is not None:
        padding = Sides(*(tuple(map(sum, zip(a, b, strict=True)))
                          for a, b in zip(padding, padded, strict=True)))  # fmt: skip
    bias = site.weights(2) if site.has_input(2) else None
    group = site.attribute("group", 1)
    site.give(convolve(site, x, weight, bias, padding=padding, window=window, group=group))


@imports("ConvTranspose")
def import_conv_transpose(site: NodeSite) -> None:
    x, weight = site.blob(0), site.weights(1)
    window = window_options(site, weight.shape[2:])
    axes = len(window.kernel)
    more = site.attribute("output_padding", (0,) * axes)
    full = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(x.shape[2:], *window, strict=True)]
    if "output_shape" in site.node.attributes or site.attribute("auto_pad", "NOTSET") != "NOTSET":
        lost = [f - n for f, n in zip(full, site.result_shape()[2:], strict=True)]
        upper = site.attribute("auto_pad", "NOTSET") == "SAME_UPPER"
        begin = [n // 2 if upper else n - n // 2 for n in lost]
        end = [n - b for n, b in zip(lost, begin, strict=True)]
    else:
        pads = list(site.attribute("pads", (0,) * 2 * axes))
        begin, end = pads[:axes], [e - m for e, m in zip(pads[axes:], more, strict=True)]
    bias = site.weights(2) if site.has_input(2) else None
    cropping = Sides(tuple(begin), tuple(end))
    group = site.attribute("group", 1)
    site.give(deconvolve(site, x, weight, bias, cropping=cropping, window=window, group=group))


def each_channel(site: NodeSite, x: MadeBlob, strides: Sequence[int], padding: Sides) -> MadeBlob:
    """Every `strides`-th pixel of x, with zeros around it."""
    channels, ones = x.shape[1], (1,) * len(strides)
    window = WindowOptions(ones, tuple(strides), ones)
    weight = np.ones((channels, 1, *ones), np.float32)
    return convolve(site, x, weight, padding=padding, window=window, group=channels,
                    learned=False, part="copy")  # fmt: skip


@imports("DepthToSpace")
def import_depth_to_space(site: NodeSite) -> None:
    """A Deconvolution with fixed kernels that copy each channel to its place."""
    x, block = site.blob(0), site.attribute("blocksize")
    channels = x.shape[1] // block**2
    weight = np.zeros((x.shape[1], channels, block, block), np.float32)
    by_column = site.attribute("mode", "DCR") == "CRD"
    for i, j, c in np.ndindex(block, block, channels):
        source = (c * block + i) * block + j if by_column else (i * block + j) * channels + c
        weight[source, c, i, j] = 1
    group = 1
    if by_column:  # each channel of the result has its own neighboring sources
        group, weight = channels, weight.sum(1, keepdims=True)
    window = WindowOptions((block,) * 2, (block,) * 2, (1, 1))
    none = Sides((0, 0), (0, 0))
    site.give(deconvolve(site, x, weight, cropping=none, window=window, group=group,
                         learned=False))  # fmt: skip


@imports("SpaceToDepth")
def import_space_to_depth(site: NodeSite) -> None:
    """A convolution whose kernels pick the pixels of each block."""
    x, block = site.blob(0), site.attribute("blocksize")
    channels = x.shape[1]
    weight = np.zeros((block**2 * channels, channels, block, block), np.float32)
    for i, j, c in np.ndindex(block, block, channels):
        weight[(i * block + j) * channels + c, c, i, j] = 1
    window = WindowOptions((block,) * 2, (block,) * 2, (1, 1))
    none = Sides((0, 0), (0, 0))
    site.give(convolve(site, x, weight, padding=none, window=window, learned=False))
