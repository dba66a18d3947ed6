"""Pooling: Caffe's sizes and divisors made to agree with ONNX's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.conv import Sides, WindowOptions, sides, window_fields, window_options
from moka.importer.table import imports, refuse_operators
from moka.layers.window import Window, pooled_sizes
from moka.schema import caffe_pb2
from moka.types import Array

FLOOR = caffe_pb2.PoolingParameter.FLOOR
MAX, AVE = caffe_pb2.PoolingParameter.MAX, caffe_pb2.PoolingParameter.AVE


def _pool(
    site: NodeSite,
    x: MadeBlob,
    method: int,
    window: WindowOptions,
    padding: Sides,
    out: Sequence[int],
) -> tuple[MadeBlob, tuple[int, ...]]:
    """Pool `out` windows along each axis, the first of which starts at the padding's begin.

    Caffe pads both sides alike, so it may have to make more windows, which are cut off.

    Returns:
        The blob, and the padding that Caffe uses.
    """
    size = x.shape[2:]
    modes = (True,) if site.builder.only_ceil else (True, False)
    choices = [
        (pads, windows, rounds_up, pooled_sizes(size, windows, round_up=rounds_up))
        for pads in _paddings(window, padding)
        for windows in ([Window(*sizes) for sizes in zip(*window[:2], pads, strict=True)],)
        for rounds_up in modes
    ]
    skipped = {
        pads: [(p - b) // s for p, b, s in zip(pads, padding.begin, window.stride, strict=True)]
        for pads, *_ in choices
    }
    fitting = [
        (made != tuple(out), pads, rounds_up)
        for pads, _, rounds_up, made in choices
        if all(m >= k + o for m, k, o in zip(made, skipped[pads], out, strict=True))
    ]
    if not fitting:
        raise NetError(
            f"it makes {tuple(out)} windows of an image of {size}; Caffe's pooling with a kernel of"
            f" {window.kernel} and stride {window.stride} has none that contain them."
        )
    _, pads, rounds_up = min(fitting, key=lambda choice: choice[0])  # one without a cut is best
    options: dict[str, Any] = {
        "pool": method,
        **window_fields("kernel_size", window.kernel),
        **window_fields("pad", pads, 0),
        **window_fields("stride", window.stride, 1),
    }
    if not rounds_up:
        options["round_mode"] = FLOOR
    y = site.add("Pooling", x, part="pooling", pooling_param=options)
    for axis, (skip, count) in enumerate(zip(skipped[pads], out, strict=True), 2):
        y = site.cut(y, axis, skip, skip + count, part=f"cut{axis}")
    return y, pads


def _paddings(window: WindowOptions, padding: Sides) -> list[tuple[int, ...]]:
    """Paddings of both sides by which some windows start where they should, smallest first."""
    each = [
        range(begin, max(kernel, begin + 1), stride)
        for begin, kernel, stride in zip(padding.begin, window.kernel, window.stride, strict=True)
    ]
    return sorted(product(*each), key=sum)


Pool = Callable[[MadeBlob, WindowOptions, Sides, tuple[int, ...]], MadeBlob]


def _images_of_axes(
    site: NodeSite, x: MadeBlob, window: WindowOptions, padding: Sides, pool: Pool
) -> MadeBlob:
    """Pool any number of spatial axes: the last two as images, each one before them by itself."""
    shape, out = list(x.shape), site.result_shape()
    count = len(window.kernel)
    steps: list[tuple[int, ...]] = [(k,) for k in range(max(count - 2, count % 2))]
    steps += [(count - 2, count - 1)] if count > 1 else []
    for axes in steps:
        first, last = axes[0] + 2, axes[-1] + 2
        cut = WindowOptions(*(_two(part, axes, 1) for part in window))
        sides_of = Sides(*(_two(part, axes, 0) for part in padding))
        if (cut.kernel, cut.stride) == ((1, 1), (1, 1)) and not any((*sides_of[0], *sides_of[1])):
            continue
        size = _two(tuple(shape[2:]), axes, prod(shape[last + 1 :]))
        x = site.reshape(x, (shape[0], prod(shape[1:first]), *size), part=f"axis{first}")
        shape[first : last + 1] = out[first : last + 1]
        x = pool(x, cut, sides_of, _two(out[2:], axes, size[1]))
    return site.reshape(x, shape)


def _two(values: Sequence[int], axes: Sequence[int], other: int) -> tuple[int, int]:
    """The values of these axes; `other` for the second one, if there is one axis alone."""
    return values[axes[0]], values[axes[1]] if len(axes) > 1 else other


@imports("MaxPool")
def import_max_pool(site: NodeSite) -> None:
    x = site.blob(0)
    window = window_options(site, site.attribute("kernel_shape"))
    if set(window.dilation) != {1}:
        raise NetError("pooling with dilation has no form in Caffe.")
    if site.is_used(1):
        raise NetError("the positions of its maxima are read, which has no form in Caffe.")

    def pool(x: MadeBlob, window: WindowOptions, padding: Sides, out: tuple[int, ...]) -> MadeBlob:
        return _pool(site, x, MAX, window, padding, out)[0]

    site.give(_images_of_axes(site, x, window, sides(site, x.shape[2:], window), pool))


@imports("AveragePool")
def import_average_pool(site: NodeSite) -> None:
    x = site.blob(0)
    window = window_options(site, site.attribute("kernel_shape"))
    if set(window.dilation) != {1}:
        raise NetError("pooling with dilation has no form in Caffe.")
    counts_padding = bool(site.attribute("count_include_pad", 0))

    def pool(x: MadeBlob, window: WindowOptions, padding: Sides, out: tuple[int, ...]) -> MadeBlob:
        return _average(site, x, window, padding, out, counts_padding)

    site.give(_images_of_axes(site, x, window, sides(site, x.shape[2:], window), pool))


def _average(
    site: NodeSite,
    x: MadeBlob,
    window: WindowOptions,
    padding: Sides,
    out: tuple[int, ...],
    counts_padding: bool,
) -> MadeBlob:
    """An average whose divisors differ from Caffe's is followed by the factors between them."""
    y, pads = _pool(site, x, AVE, window, padding, out)
    caffes, onnxs = np.ones(()), np.ones(())
    for k, size in enumerate(x.shape[2:]):
        kernel, begin, end = window.kernel[k], padding.begin[k], padding.end[k]
        start = np.arange(out[k]) * window.stride[k] - begin
        stop = start + kernel
        ours = np.minimum(stop, size + pads[k]) - start
        if counts_padding:
            theirs = np.minimum(stop, size + end) - start
        else:
            theirs = np.minimum(stop, size) - np.maximum(start, 0)
        caffes, onnxs = caffes[..., None] * ours, onnxs[..., None] * theirs
    return scaled_pixels(site, y, caffes / onnxs)


def scaled_pixels(site: NodeSite, x: MadeBlob, factors: Array) -> MadeBlob:
    """x times a factor for each pixel, if any differs from 1."""
    if np.all(factors == 1):
        return x
    return site.add("Scale", x, blobs=[factors], learned=False, part="divisor",
                    scale_param={"axis": 2, "num_axes": 2})  # fmt: skip


@imports("GlobalAveragePool", "GlobalMaxPool")
def import_global_pool(site: NodeSite) -> None:
    method = AVE if site.node.op == "GlobalAveragePool" else MAX
    site.give(pool_images(site, site.blob(0), method))


def pool_images(site: NodeSite, x: MadeBlob, method: int) -> MadeBlob:
    """Pool whole images (N, C, spatial...) to (N, C, 1...)."""
    if len(x.shape) < 3:
        raise NetError(f"it pools a tensor of {len(x.shape)} axes, which has no images.")
    ones = (1,) * (len(x.shape) - 2)
    if len(x.shape) != 4:
        x = site.reshape(x, (*x.shape[:2], prod(x.shape[2:]), 1), part="images")
    y = site.add("Pooling", x, part="pooling",
                 pooling_param={"pool": method, "global_pooling": True})  # fmt: skip
    return site.reshape(y, (*x.shape[:2], *ones))


def pool_rows(site: NodeSite, x: MadeBlob, first: int, last: int, method: int) -> MadeBlob:
    """x with its axes `first` (not 0) to `last` pooled to one number: (N, before, 1, after)."""
    shape = x.shape
    rows = prod(shape[first : last + 1])
    image = (shape[0], prod(shape[1:first]), rows, prod(shape[last + 1 :]))
    return site.add("Pooling", site.reshape(x, image, part="images"), part="pooling",
                    pooling_param={"pool": method, "kernel_h": rows, "kernel_w": 1})  # fmt: skip


refuse_operators("Caffe has no pooling by a norm.", "LpPool", "GlobalLpPool")
refuse_operators("Caffe's own layers do not undo a pooling.", "MaxUnpool")
