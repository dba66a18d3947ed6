"""Convolutions, products with matrices, and pooling."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from moka.errors import NetError
from moka.export.torch.table import writes
from moka.export.torch.writer import Bottom, ModuleSite, number, one_or_all
from moka.layers.conv import all_even
from moka.layers.pooling import LOWEST
from moka.layers.window import Window, covering, padding_of, pooled_sizes
from moka.types import Shape


@writes(
    *("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise", "NdConvolution"),
    *("Convolution3D", "Deconvolution", "Deconvolution3D", "BinaryConvolution", "CConvolution"),
)
def write_convolution(site: ModuleSite) -> list[str]:
    layer, windows = site.layer, site.option("windows")
    channel_axis, axes = site.option("channel_axis"), len(windows)
    if channel_axis != 1 or not 1 <= axes <= 3:
        raise NetError(f"PyTorch convolves (N, C, ...) with one to three axes, this has the"
                       f" channels at axis {channel_axis} and {axes} after them.")  # fmt: skip
    transposed = layer.entry.type.startswith("Deconvolution")
    if not transposed:
        windows = covering(windows, site.bottoms[0].shape[2:])
    group, biased = site.option("group"), site.option("bias_term")
    uneven = not all_even(windows)
    call = site.module(
        f"Conv{'Transpose' if transposed else ''}{axes}d",
        site.bottoms[0].shape[1],
        site.option("num_output"),
        one_or_all([w.kernel for w in windows]),
        stride=_unless(1, one_or_all([w.stride for w in windows])),
        padding=_unless(0, one_or_all([0 if uneven else w.pad for w in windows])),
        dilation=_unless(1, one_or_all([w.dilation for w in windows])),
        groups=_unless(1, group),
        bias=None if biased else False,
    )
    _hold_weight_and_bias(site)
    margins = padding_of(windows) if uneven else []
    return [
        _rectified(_convolved(call, str(bottom), margins, transposed), site.option("slope"))
        for bottom in site.bottoms
    ]


def _convolved(call: str, x: str, margins: list[int], transposed: bool) -> str:
    """The call of a convolution; margins are its padding where opposite sides differ, from the last
    axis on: zeros around the image, or pixels that are cut off the result."""
    if not margins:
        return f"{call}({x})"
    if transposed:
        return f"F.pad({call}({x}), {tuple(-side for side in margins)})"
    return f"{call}(F.pad({x}, {tuple(margins)}))"


def _rectified(y: str, slope: float | None) -> str:
    """The rectifier that a fork's convolution ends with, if there is one."""
    if slope is None:
        return y
    return f"F.leaky_relu({y}, {number(slope)})" if slope else f"F.relu({y})"


def _unless(default: int, value: int | tuple[int, ...]) -> int | tuple[int, ...] | None:
    return None if value == default else value


def _hold_weight_and_bias(site: ModuleSite, *, transposed: bool = False) -> None:
    """Keep weight and bias as the layer multiplies them. Values that it changes on the way are
    shared with no other layer."""
    layer: Any = site.layer
    for key, values, blob in zip(("weight", "bias"), layer.multiplied(), layer.blobs, strict=False):
        source = blob if values.data_ptr() == blob.data_ptr() else None
        whole = values if key == "weight" else values.reshape(-1)
        site.hold(key, whole.t() if key == "weight" and transposed else whole, source)


@writes("InnerProduct", "BinaryInnerProduct", "CInnerProduct")
def write_inner_product(site: ModuleSite) -> str:
    x, *given = site.bottoms
    axis = site.option("axis") % len(x.shape)
    biased = site.option("bias_term")
    rows = str(x) if axis == len(x.shape) - 1 else f"{x}.flatten({axis})"
    if given:
        return _linear_of_bottoms(site, rows, *given)
    call = site.module(
        "Linear", site.option("inputs"), site.option("num_output"), bias=None if biased else False
    )
    _hold_weight_and_bias(site, transposed=site.option("transpose"))
    return f"{call}({rows})"


def _linear_of_bottoms(site: ModuleSite, rows: str, weight: Bottom, *bias: Bottom) -> str:
    """A product by a weight that is a bottom, as the bias may be."""
    own = [site.parameter("bias", blob, blob) for blob in site.layer.blobs]
    added = [f"{each}.flatten()" for each in bias] or own
    return f"F.linear({', '.join([rows, f'{weight}.flatten(1)', *added])})"


@writes("MatrixMultiplication")
def write_matrix_multiplication(site: ModuleSite) -> str:
    a, b = site.bottoms
    return f"{a} @ {b}"


@writes("Embed")
def write_embed(site: ModuleSite) -> str:
    table = site.layer.blobs[0]
    call = site.module("Embedding", *table.shape)
    site.hold("weight", table, table)
    y = f"{call}({site.bottoms[0]}.long())"
    if site.option("bias_term"):
        bias = site.layer.blobs[1]
        y += f" + {site.parameter('bias', bias, bias)}"
    return y


@writes("Pooling", "NdPooling", "Pooling3D")
def write_pooling(site: ModuleSite) -> str:
    (x,) = site.bottoms
    method = site.option("pool")
    if len(site.tops) > 1 or method == "STOCHASTIC":
        raise NetError("stochastic pooling, and the positions of maxima, have no short form in"
                       " PyTorch.")  # fmt: skip
    axes = len(x.shape) - 2
    if not 1 <= axes <= 3:
        raise NetError(f"PyTorch pools one to three axes after the channels, got {axes}.")
    kind = "max" if method == "MAX" else "avg"
    if site.option("global_pooling"):
        return f"F.adaptive_{kind}_pool{axes}d({x}, 1)"
    windows: tuple[Window, ...] = site.option("windows")
    size, out = x.shape[2:], site.tops[0][2:]
    sizes = [one_or_all([w.kernel for w in windows]), one_or_all([w.stride for w in windows])]
    pad = one_or_all([w.pad for w in windows])
    call = f"F.{kind}_pool{axes}d"
    arguments = f"{sizes[0]}, stride={sizes[1]}"
    rounds_up = pooled_sizes(size, windows, round_up=False) != out
    if _agrees(size, windows, out, rounds_up):
        arguments += f", padding={pad}" if pad else ""
        arguments += ", ceil_mode=True" if rounds_up else ""
        if kind == "avg" and pad and not site.option("avg_include_pad"):
            arguments += ", count_include_pad=False"
        return f"{call}({x}, {arguments})"
    padding: list[int] = []  # so that exactly Caffe's windows fit; from the last axis on
    for n, w, m in zip(size, windows, out, strict=True):
        padding = [w.pad, (m - 1) * w.stride + w.kernel - n - w.pad, *padding]
    if method == "MAX":
        return f"{call}(F.pad({x}, {tuple(padding)}, value={LOWEST!r}), {arguments})"
    areas = _divisors(size, windows, out, include_pad=site.option("avg_include_pad"))
    factors = site.buffer("divisor", areas)
    return f"{call}(F.pad({x}, {tuple(padding)}), {arguments}) * {factors}"


def _agrees(size: Shape, windows: tuple[Window, ...], out: Shape, rounds_up: bool) -> bool:
    """Whether PyTorch's own pooling makes Caffe's windows."""
    return pooled_sizes(size, windows, round_up=rounds_up) == out and all(
        2 * w.pad <= w.kernel and w.pad == w.after and (m - 1) * w.stride < n + w.pad
        for n, w, m in zip(size, windows, out, strict=True)
    )


def _divisors(size: Shape, windows: tuple[Window, ...], out: Shape, *, include_pad: bool) -> Tensor:
    """The kernel's area by that of each window inside the padded image, or inside the image
    itself."""
    area = torch.ones(())
    for n, w, m in zip(size, windows, out, strict=True):
        start = torch.arange(m) * w.stride - w.pad
        end = (start + w.kernel).clamp_max(n + w.after)
        if not include_pad:
            start, end = start.clamp_min(0), end.clamp_max(n)
        area = area[..., None] * (end - start if include_pad else (end - start).clamp_min(1))
    return prod(w.kernel for w in windows) / area
