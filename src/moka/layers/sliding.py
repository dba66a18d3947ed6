"""All spellings of kernel, stride, pad and dilation, for layers with sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.shapes import canonical_axis
from moka.layers.window import Window, per_axis
from moka.schema import caffe_pb2
from moka.types import Shape

DILATIONS = ("dilation", "filter_stride", "hole")


class Sliding(Layer):
    """Base of layers whose windows slide over the axes after the channel axis.

    Forks have more names for the same. Dilation: `filter_stride` (ParseNet) and `hole` (DeepLab),
    each also with _h and _w, and `dilation_h`, `dilation_w` (yjxiong). `kernel_shape`,
    `stride_shape` and `pad_shape` (video-caffe) list a size for each spatial axis. `kernel_depth`,
    `temporal_stride` and `temporal_pad` (C3D) are the window along the first of three. `pad_t`,
    `pad_b`, `pad_l` and `pad_r` (Synopsys) pad the four sides of images each by itself, in place of
    pad.
    """

    pad: tuple[int, ...] = option()
    kernel_size: tuple[int, ...] = option(positive)
    stride: tuple[int, ...] = option(positive)
    pad_h: int | None = option(unset_is_none=True)
    pad_w: int | None = option(unset_is_none=True)
    kernel_h: int | None = option(positive)
    kernel_w: int | None = option(positive)
    stride_h: int | None = option(positive)
    stride_w: int | None = option(positive)
    axis: int = option()
    dilation: tuple[int, ...] = option(positive)
    dilation_h: int | None = option(positive)
    dilation_w: int | None = option(positive)
    filter_stride: int | None = option(positive, unset_is_none=True)
    filter_stride_h: int | None = option(positive)
    filter_stride_w: int | None = option(positive)
    hole: int | None = option(positive, unset_is_none=True)
    hole_h: int | None = option(positive)
    hole_w: int | None = option(positive)
    kernel_shape: caffe_pb2.BlobShape = option()
    stride_shape: caffe_pb2.BlobShape = option()
    pad_shape: caffe_pb2.BlobShape = option()
    kernel_depth: int | None = option(not_negative)
    temporal_stride: int | None = option(positive, unset_is_none=True)
    temporal_pad: int | None = option(unset_is_none=True)
    pad_t: int = option()
    pad_b: int = option()
    pad_l: int = option()
    pad_r: int = option()
    pad_type: int = option()
    force_nd_im2col: bool = option()

    def setup(self, x: Shape, *others: Shape) -> None:
        self.channel_axis = canonical_axis(self.axis, x)
        windows = windows_of(self, len(x) - self.channel_axis - 1)
        self.windows = with_sides(self, windows, x[self.channel_axis + 1 :])


_ONE_SIDED = ("pad_type", "pad_t", "pad_b", "pad_l", "pad_r")


def windows_of(layer: Layer, axes: int) -> list[Window]:
    """The window along each of the spatial axes, from the layer's options."""
    fields = layer.__dict__
    sizes = (sizes_along(layer, prop, fields[prop.name], axes) for prop in (KERNEL, STRIDE, PAD))
    return [Window(*along) for along in zip(*sizes, _dilations(layer, axes), strict=True)]


def with_sides(layer: Layer, windows: Sequence[Window], size: Shape) -> list[Window]:
    """The windows with the padding of single sides, if the layer's options give it.

    Args:
        size: of the image, for the advice where it would decide about the padding.
    """
    kind, top, bottom, left, right = (getattr(layer, name) for name in _ONE_SIDED)
    if kind != 0:
        advice = _written_out(windows, size) if kind == 1 else None
        raise NetError(f"pad_type: {kind} is not supported.", advice=advice)
    sides = ((top, bottom), (left, right))
    if not any(map(any, sides)):
        return list(windows)
    if len(windows) != len(sides):
        raise NetError(f"pad_t, pad_b, pad_l and pad_r are for two spatial axes, here are"
                       f" {len(windows)}.")  # fmt: skip
    if any(w.pad for w in windows):
        raise NetError("give either pad or pad_t, pad_b, pad_l and pad_r, not both.")
    return [
        w._replace(pad=before, end_pad=None if after == before else after)
        for w, (before, after) in zip(windows, sides, strict=True)
    ]


def _written_out(windows: Sequence[Window], size: Shape) -> str:
    """What to write in place of pad_type: 1, which pads so that the top has size / stride pixels,
    rounded up. As Synopsys' layer does it looks at the kernel alone, not at the dilation."""
    if len(windows) != 2:
        return "Give pad."
    totals = [
        max(0, w.kernel - (n % w.stride or w.stride)) for n, w in zip(size, windows, strict=True)
    ]
    (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in totals)
    return (
        f"For images of {size[0]} x {size[1]}, write pad_t: {top} pad_b: {bottom} pad_l: {left}"
        f" pad_r: {right} in place of pad_type: 1."
    )


class Property(NamedTuple):
    """A property of windows: its option, the stem of its other options, its default (None: it has
    to be given), and C3D's option for the axis of time."""

    name: str
    stem: str
    default: int | None
    along_time: str


KERNEL = Property("kernel_size", "kernel", None, "kernel_depth")
STRIDE = Property("stride", "stride", 1, "temporal_stride")
PAD = Property("pad", "pad", 0, "temporal_pad")


def sizes_along(
    layer: Layer, prop: Property, values: tuple[int, ...], axes: int
) -> tuple[int, ...]:
    """One property of the windows along each axis, from whichever options of the layer are set.

    Args:
        values: those of the plain option.
    """
    fields = layer.__dict__
    name, stem, default, along_time = prop
    shape = _sizes_in_shape(layer, f"{stem}_shape")
    if shape:
        if values:
            raise NetError(f"give either {name} or {stem}_shape, not both.")
        values = shape
    if fields["kernel_depth"]:
        return _in_time(layer, prop, values, axes)
    if fields[along_time]:
        raise NetError(f"{along_time} goes with kernel_depth, which is missing.")
    return per_axis(name, values, fields[f"{stem}_h"], fields[f"{stem}_w"], axes, default)


def _in_time(layer: Layer, prop: Property, values: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """C3D's form: one size for the two axes of an image, one for the axis of time before them."""
    if axes != 3:
        raise NetError(f"kernel_depth is for three spatial axes, here are {axes}.")
    first = layer.__dict__[prop.along_time]
    if first is None:
        first = prop.default or 0
    return (int(first), *per_axis(prop.name, values, None, None, 2, prop.default))


def _dilations(layer: Layer, axes: int) -> tuple[int, ...]:
    fields = layer.__dict__
    given = [
        name
        for name in DILATIONS
        if any(fields[f"{name}{end}"] not in (None, ()) for end in ("", "_h", "_w"))
    ]
    if len(given) > 1:
        raise NetError(f"give either {given[0]} or {given[1]}, not both.")
    name = given[0] if given else "dilation"
    values = fields[name]
    if not isinstance(values, tuple):
        values = () if values is None else (values,)
    return per_axis(name, values, fields[f"{name}_h"], fields[f"{name}_w"], axes, 1)


def _sizes_in_shape(layer: Layer, name: str) -> tuple[int, ...]:
    """The sizes that video-caffe's `kernel_shape` and its like list; none if it is not given."""
    sizes = tuple(getattr(layer, name).dim)
    least = 0 if name.startswith("pad") else 1
    if any(size < least for size in sizes):
        raise NetError(f"{name} must list numbers >= {least}, got {sizes}.")
    return sizes


def convolved_sizes(spatial: Shape, windows: Sequence[Window]) -> list[int]:
    """Output sizes of a convolution; raises NetError if a kernel does not fit."""
    for size, window in zip(spatial, windows, strict=True):
        if window.extent > size + sum(window.sides):
            before, after = window.sides
            padding = f"2 * {before}" if before == after else f"{before} + {after}"
            raise NetError(
                f"the kernel ({window.extent}) is larger than the padded image ({size} +"
                f" {padding})."
            )
    return [w.convolved(size) for size, w in zip(spatial, windows, strict=True)]
