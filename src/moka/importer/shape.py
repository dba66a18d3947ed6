"""Operators that copy, join, cut and reorder values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.conv import Sides, each_channel, padding_of
from moka.importer.forks import as_shuffle_channel
from moka.importer.matrices import along
from moka.importer.table import imports, refuse_operators


@imports("Identity", "Cast")
def import_same(site: NodeSite) -> None:
    """The same blob under another name."""
    dtype = site.builder.trace.values[site.node.outputs[0]].dtype
    given = site.builder.trace.values[site.node.inputs[0]].dtype
    if site.node.op == "Cast" and dtype != np.float32 and dtype != given:
        raise NetError(f"it makes {dtype} of floats, and Caffe's blobs hold floats.")
    site.give(site.blob(0))


@imports("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def import_reshape(site: NodeSite) -> None:
    site.give(as_shuffle_channel(site) or site.reshape(site.blob(0), site.result_shape()))


@imports("Concat")
def import_concat(site: NodeSite) -> None:
    """Constants among the inputs are made of another input's zeros, so that they have its batch."""
    count = len(site.node.inputs)
    like = next(site.blob(k) for k in range(count) if site.is_variable(k))
    axis = site.attribute("axis") % len(like.shape)
    blobs = [
        site.blob(k) if site.is_variable(k) else _constant_like(site, like, axis, k)
        for k in range(count)
    ]
    options: dict[str, Any] = {"concat_param": {"axis": axis}} if axis != 1 else {}
    site.give(site.add("Concat", *blobs, **options))


def _constant_like(site: NodeSite, x: MadeBlob, axis: int, index: int) -> MadeBlob:
    """Input number `index`, a constant, as a blob of the shape of x, but for one axis."""
    values = site.weights(index)
    if axis == 0 or values.shape[0] != 1:
        raise NetError("it joins a constant along the batch, which has no form in Caffe.")
    part = f"constant{index}"
    zeros = site.power(site.cut(x, axis, 0, 1, part=f"{part}_cut"), scale=0, part=f"{part}_zeros")
    zeros = site.tile(zeros, (x.shape[0], *values.shape[1:]))
    return site.add("Bias", zeros, blobs=[values[0]], learned=False, part=part,
                    bias_param={"axis": 1, "num_axes": values.ndim - 1})  # fmt: skip


@imports("Split")
def import_split(site: NodeSite) -> None:
    x = site.blob(0)
    axis = site.attribute("axis", 0) % len(x.shape)
    sizes = [site.result_shape(k)[axis] for k in range(len(site.node.outputs))]
    points = np.cumsum(sizes)[:-1].tolist()
    if not points:
        site.give(x)
        return
    parts = site.add_several("Slice", x, tops=len(sizes),
                             slice_param={"axis": axis, "slice_point": points})  # fmt: skip
    for k, part in enumerate(parts):
        site.give(part, k)


@imports("Slice")
def import_slice(site: NodeSite) -> None:
    """Parts of axes; every n-th pixel of images."""
    x = site.blob(0)
    starts, ends = site.setting("starts", 1), site.setting("ends", 2)
    axes = site.setting("axes", 3) or list(range(len(starts)))
    steps = site.setting("steps", 4) or [1] * len(starts)
    strides = [1] * len(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(x.shape)
        first, last, strides[axis] = slice(start, end, step).indices(x.shape[axis])
        if step < 0:
            _require_image_axis(x, axis)
            places = np.arange(x.shape[axis])[start:end:step]
            x = along(site, x, axis, np.eye(x.shape[axis], dtype=np.float32)[places])
            strides[axis] = 1
            continue
        x = site.cut(x, axis, first, last, part=f"cut{axis}")
    if any(step != 1 for step in strides):
        if len(strides) < 3 or strides[:2] != [1, 1]:
            raise NetError("it takes every n-th image or channel, which has no form in Caffe.")
        none = (0,) * (len(strides) - 2)
        x = each_channel(site, x, strides[2:], Sides(none, none))
    site.give(x)


@imports("Pad")
def import_pad(site: NodeSite) -> None:
    """With one number: a convolution of each channel by itself with a kernel that copies. With
    what the image holds: products with matrices."""
    x = site.blob(0)
    begin, end, value = padding_of(site)
    mode, rank = site.attribute("mode", "constant"), len(x.shape)
    for axis in range(rank):  # cut first what negative padding takes away
        first, last = max(-begin[axis], 0), x.shape[axis] - max(-end[axis], 0)
        x = site.cut(x, axis, first, last, part=f"cut{axis}")
    begin, end = (tuple(max(p, 0) for p in side) for side in (begin, end))
    if mode != "constant":
        site.give(_padded_with_itself(site, x, begin, end, mode))
        return
    if any((*begin, *end)):
        if any((*begin[:2], *end[:2])) or rank < 3:
            raise NetError("padding of the first two axes has no form in Caffe, whose convolutions"
                           " pad the axes after them.")  # fmt: skip
        x = site.power(x, shift=-value, part="below")
        x = each_channel(site, x, [1] * (rank - 2), Sides(begin[2:], end[2:]))
        x = site.power(x, shift=value, part="above")
    site.give(x)


def _padded_with_itself(
    site: NodeSite,
    x: MadeBlob,
    begin: Sequence[int],
    end: Sequence[int],
    mode: Literal["reflect", "edge"],
) -> MadeBlob:
    for axis, sides in enumerate(zip(begin, end, strict=True)):
        if any(sides):
            _require_image_axis(x, axis)
            eye = np.eye(x.shape[axis], dtype=np.float32)
            x = along(site, x, axis, np.pad(eye, (sides, (0, 0)), mode=mode))
    return x


def _require_image_axis(x: MadeBlob, axis: int) -> None:
    if len(x.shape) != 4 or axis == 0:
        raise NetError(f"it reorders axis {axis} of a tensor of {len(x.shape)} axes; Caffe can do"
                       " this with the channels, rows and columns of images (N, C, H, W)."
                       )  # fmt: skip


@imports("Gather")
def import_gather(site: NodeSite) -> None:
    """Places that lie side by side are cut out, others picked by a matrix."""
    x, index = site.blob(0), site.constant(1)
    axis = site.attribute("axis", 0) % len(x.shape)
    if index is None or not index.size:
        raise NetError("it has no indices.")
    places = (index.reshape(-1) % x.shape[axis]).tolist()
    if places == list(range(places[0], places[0] + len(places))):
        y = site.cut(x, axis, places[0], places[0] + len(places))
    else:
        _require_image_axis(x, axis)
        y = along(site, x, axis, np.eye(x.shape[axis], dtype=np.float32)[places])
    site.give(site.reshape(y, site.result_shape(), part="shape"))


@imports("Expand", "Tile")
def import_tile(site: NodeSite) -> None:
    x, shape = site.blob(0), site.result_shape()
    x = site.reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
    for axis, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
        if have != want:
            x = site.add("Tile", x, part=f"tile{axis}",
                         tile_param={"axis": axis, "tiles": want // have})  # fmt: skip
    site.give(x)


refuse_operators(
    "Caffe has no layers for indices.", "GatherElements", "GatherND", "ScatterND", "TopK"
)
refuse_operators("its rows depend on values.", "NonMaxSuppression", "NonZero", "Unique", "Compress")
