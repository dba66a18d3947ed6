"""Pooling: Caffe's sizes and divisors made to agree with ONNX's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.importer.builder import Site, Value
from moka.importer.conv import Sides, WindowOptions, per_axis, sides, window_options
from moka.importer.table import imports, refuse
from moka.layers.window import Window, pooled_sizes
from moka.schema import caffe_pb2
from moka.types import Array

FLOOR = caffe_pb2.PoolingParameter.FLOOR
MAX, AVE = caffe_pb2.PoolingParameter.MAX, caffe_pb2.PoolingParameter.AVE


def _require_images(x: Value) -> None:
    if len(x.shape) != 4:
        raise NetError(f"it pools a tensor of {len(x.shape)} axes, and Caffe pools images"
                       " (N, C, H, W).")  # fmt: skip


def _pool(site: Site, x: Value, method: int, window: WindowOptions, padding: Sides,
          out: Sequence[int]) -> Value:  # fmt: skip
    """Pool windows that start at the padding's begin, `out` of them along each axis."""
    size = x.shape[2:]
    windows = [Window(k, s, p) for k, s, p in zip(window.kernel, window.stride, padding.begin,
                                                  strict=True)]  # fmt: skip
    modes = (True,) if site.builder.only_ceil else (True, False)
    rounds_up = next((m for m in modes if pooled_sizes(size, windows, round_up=m) == tuple(out)),
                     True)  # fmt: skip
    made = pooled_sizes(size, windows, round_up=rounds_up)
    if any(m < o for m, o in zip(made, out, strict=True)):
        raise NetError(
            f"it makes {tuple(out)} windows of an image of {size}; Caffe's pooling with a kernel of"
            f" {window.kernel}, stride {window.stride} and padding {padding.begin} makes {made}."
        )
    options: dict[str, Any] = {
        "pool": method,
        **per_axis("kernel_size", window.kernel),
        **per_axis("pad", padding.begin, 0),
        **per_axis("stride", window.stride, 1),
    }
    if not rounds_up:
        options["round_mode"] = FLOOR
    y = site.add("Pooling", x, part="pooling", pooling_param=options)
    for axis, count in enumerate(out, 2):
        y = site.cut(y, axis, 0, count, part=f"cut{axis}")
    return y


@imports("MaxPool")
def import_max_pool(site: Site) -> None:
    x = site.blob(0)
    _require_images(x)
    window = window_options(site, site.attribute("kernel_shape"))
    if set(window.dilation) != {1}:
        raise NetError("pooling with dilation has no form in Caffe.")
    if site.is_used(1):
        raise NetError("the positions of its maxima are read, which has no form in Caffe.")
    padding = sides(site, x.shape[2:], window)
    site.give(_pool(site, x, MAX, window, padding, site.result_shape()[2:]))


@imports("AveragePool")
def import_average_pool(site: Site) -> None:
    """An average whose divisors differ from Caffe's is followed by the factors between them."""
    x = site.blob(0)
    _require_images(x)
    window = window_options(site, site.attribute("kernel_shape"))
    if set(window.dilation) != {1}:
        raise NetError("pooling with dilation has no form in Caffe.")
    padding, out = sides(site, x.shape[2:], window), site.result_shape()[2:]
    y = _pool(site, x, AVE, window, padding, out)
    counts_padding = bool(site.attribute("count_include_pad", 0))
    caffes, onnxs = np.ones(()), np.ones(())
    for k, size in enumerate(x.shape[2:]):
        kernel, begin, end = window.kernel[k], padding.begin[k], padding.end[k]
        start = np.arange(out[k]) * window.stride[k] - begin
        stop = start + kernel
        ours = np.minimum(stop, size + begin) - start
        if counts_padding:
            theirs = np.minimum(stop, size + end) - start
        else:
            theirs = np.minimum(stop, size) - np.maximum(start, 0)
        caffes, onnxs = caffes[..., None] * ours, onnxs[..., None] * theirs
    site.give(scaled_pixels(site, y, caffes / onnxs))


def scaled_pixels(site: Site, x: Value, factors: Array) -> Value:
    """x times a factor for each pixel, if any differs from 1."""
    if np.all(factors == 1):
        return x
    return site.add("Scale", x, blobs=[factors], learned=False, part="divisor",
                    scale_param={"axis": 2, "num_axes": 2})  # fmt: skip


@imports("GlobalAveragePool", "GlobalMaxPool")
def import_global_pool(site: Site) -> None:
    method = AVE if site.node.op == "GlobalAveragePool" else MAX
    site.give(pool_images(site, site.blob(0), method))


def pool_images(site: Site, x: Value, method: int) -> Value:
    """Pool whole images to (N, C, 1, 1)."""
    _require_images(x)
    return site.add("Pooling", x, part="pooling",
                    pooling_param={"pool": method, "global_pooling": True})  # fmt: skip


refuse("Caffe has no pooling by a norm.", "LpPool", "GlobalLpPool")
refuse("Caffe's own layers do not undo a pooling.", "MaxUnpool")
