"""Operators that copy, join, cut and reorder values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.importer.builder import Site, Value
from moka.importer.conv import Sides, each_channel
from moka.importer.table import imports, refuse
from moka.types import Shape

MOST_PARTS = 64  # into which a blob is cut to reorder its axes with BVLC's layers


@imports("Identity", "Cast")
def import_same(site: Site) -> None:
    """The same blob under another name."""
    dtype = site.builder.trace.values[site.node.outputs[0]].dtype
    if site.node.op == "Cast" and dtype != np.float32:
        raise NetError(f"it makes {dtype} of floats, and Caffe's blobs hold floats.")
    site.give(site.blob(0))


@imports("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def import_reshape(site: Site) -> None:
    site.give(site.reshape(site.blob(0), site.result_shape()))


@imports("Concat")
def import_concat(site: Site) -> None:
    blobs = [site.blob(k) for k in range(len(site.node.inputs))]
    axis = site.attribute("axis") % len(blobs[0].shape)
    options: dict[str, Any] = {"concat_param": {"axis": axis}} if axis != 1 else {}
    site.give(site.add("Concat", *blobs, **options))


@imports("Split")
def import_split(site: Site) -> None:
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
def import_slice(site: Site) -> None:
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
            raise NetError(f"it reverses axis {axis}, which has no form in Caffe.")
        x = site.cut(x, axis, first, last, part=f"cut{axis}")
    if any(step != 1 for step in strides):
        if len(strides) < 3 or strides[:2] != [1, 1]:
            raise NetError("it takes every n-th image or channel, which has no form in Caffe.")
        none = (0,) * (len(strides) - 2)
        x = each_channel(site, x, strides[2:], Sides(none, none))
    site.give(x)


@imports("Gather")
def import_gather(site: Site) -> None:
    """One place of an axis, or places that lie side by side."""
    x, index = site.blob(0), site.constant(1)
    axis = site.attribute("axis", 0) % len(x.shape)
    if index is None or not index.size:
        raise NetError("it has no indices.")
    places = (index.reshape(-1) % x.shape[axis]).tolist()
    if places != list(range(places[0], places[0] + len(places))):
        raise NetError(f"it picks the places {places[:8]} of axis {axis}; Caffe cuts out places"
                       " that lie side by side.")  # fmt: skip
    y = site.cut(x, axis, places[0], places[0] + len(places))
    site.give(site.reshape(y, site.result_shape(), part="shape"))


@imports("Expand", "Tile")
def import_tile(site: Site) -> None:
    x, shape = site.blob(0), site.result_shape()
    x = site.reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
    for axis, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
        if have != want:
            x = site.add("Tile", x, part=f"tile{axis}",
                         tile_param={"axis": axis, "tiles": want // have})  # fmt: skip
    site.give(x)


@imports("Transpose")
def import_transpose(site: Site) -> None:
    x = site.blob(0)
    order = list(site.attribute("perm", range(len(x.shape))[::-1]))
    site.give(transposed(site, x, order))


def transposed(site: Site, x: Value, order: Sequence[int]) -> Value:
    """x with its axes in another order.

    Moving axes of size 1 is a Reshape. Two blocks of axes that change places are cut apart and
    joined again if one of them is small, as when channels are shuffled. The rest needs a layer
    of SSD's fork.
    """
    shape = tuple(x.shape[axis] for axis in order)
    moved = [axis for axis in order if axis == 0 or x.shape[axis] != 1]  # a batch may grow
    if moved == sorted(moved):
        return site.reshape(x, shape)
    blocks = _blocks(moved)
    swap = _swap(blocks)
    if swap is None or min(_count(x.shape, blocks[k]) for k in (swap, swap + 1)) > MOST_PARTS:
        return site.add("Permute", x, part="permute", permute_param={"order": list(order)})
    second, first = blocks[swap], blocks[swap + 1]  # first lies before second in x
    before = [_count(x.shape, block) for block in blocks[:swap]]
    after = [_count(x.shape, block) for block in blocks[swap + 2 :]]
    m, n = _count(x.shape, first), _count(x.shape, second)
    return site.reshape(_swapped(site, x, before, m, n, after), shape)


def _swapped(site: Site, x: Value, before: list[int], m: int, n: int, after: list[int]) -> Value:
    """(before, m, n, after) to (before, n, m, after), cut along the smaller one of m and n."""
    axis = len(before)
    wide = site.reshape(x, (*before, m, n, *after), part="blocks")
    cut, joined = (axis, axis + 1) if m <= n else (axis + 1, axis)
    parts = site.add_several("Slice", wide, tops=min(m, n), part="slice",
                             slice_param={"axis": cut})  # fmt: skip
    small = (*before, *((n, 1) if m <= n else (1, m)), *after)
    turned = [site.reshape(p, small, part=f"part{k}") for k, p in enumerate(parts)]
    return site.add("Concat", *turned, part="join", concat_param={"axis": joined})


def _blocks(order: Sequence[int]) -> list[list[int]]:
    """Runs of axes that stay neighbors."""
    blocks = [[order[0]]]
    axes = sorted(order)
    following = dict(pairwise(axes))
    for axis in order[1:]:
        if following.get(blocks[-1][-1]) == axis:
            blocks[-1].append(axis)
        else:
            blocks.append([axis])
    return blocks


def _swap(blocks: list[list[int]]) -> int | None:
    """k if only blocks k and k + 1 have changed places, else None."""
    ranks = [sorted(blocks).index(block) for block in blocks]
    wrong = [k for k, rank in enumerate(ranks) if rank != k]
    return wrong[0] if len(wrong) == 2 and wrong[1] == wrong[0] + 1 else None


def _count(shape: Shape, axes: Sequence[int]) -> int:
    return prod(shape[axis] for axis in axes)


refuse("Caffe has no layers for indices.", "GatherElements", "GatherND", "ScatterND", "TopK")
refuse("its rows depend on values.", "NonMaxSuppression", "NonZero", "Unique", "Compress")
