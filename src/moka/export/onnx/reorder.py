"""Layers that put the values of a blob into another order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moka.export.onnx.builder import INT64, Site, Value
from moka.export.onnx.table import exports
from moka.layers.reorder import (
    Flip,
    GSTiling,
    Reverse,
    ReverseTime,
    ShuffleChannel,
    Tiling,
    Transpose,
)
from moka.layers.shapes import canonical_axis


@exports(ShuffleChannel, fixed_from=1)
def export_shuffle_channel(site: Site, layer: ShuffleChannel, x: Value) -> str:
    order = np.arange(x.dims[1]).reshape(layer.group, -1).T.reshape(-1)
    return site.add("Gather", x.name, site.ints(*order), axis=1)


def _reversed(site: Site, x: str, axes: Sequence[int]) -> str:
    if not axes:
        return x
    ends = [np.iinfo(np.int64).min] * len(axes)
    back = [-1] * len(axes)
    return site.add(
        "Slice", x, site.ints(*back), site.ints(*ends), site.ints(*axes), site.ints(*back)
    )


@exports(Flip)
def export_flip(site: Site, layer: Flip, x: Value) -> str:
    turned = ((2, layer.flip_height), (3, layer.flip_width))
    return _reversed(site, x.name, [axis for axis, on in turned if on])


@exports(Reverse)
def export_reverse(site: Site, layer: Reverse, x: Value) -> str:
    axes = [canonical_axis(axis, x.dims) for axis in layer.axis or (0,)]
    return _reversed(site, x.name, axes)


@exports(Transpose)
def export_transpose(site: Site, layer: Transpose, x: Value) -> str:
    return site.add("Transpose", x.name, perm=list(layer.dim))


@exports(ReverseTime)
def export_reverse_time(site: Site, layer: ReverseTime, x: Value, lengths: Value) -> str:
    length = site.add("Cast", lengths.name, to=INT64)
    y = site.add("ReverseSequence", x.name, length, time_axis=0, batch_axis=1)
    if layer.copy_remaining:
        return y
    ones = site.scaled(site.add("ConstantOfShape", site.add("Shape", x.name)), 1, 1)
    step = site.add("CumSum", ones, site.ints(0))  # from 1 on
    axes = [axis for axis in range(len(x.dims)) if axis != 1]
    inside = site.add("LessOrEqual", step, site.add("Unsqueeze", lengths.name, site.ints(*axes)))
    return site.add("Where", inside, y, site.number(0))


@exports(GSTiling)
def export_gs_tiling(site: Site, layer: GSTiling, x: Value) -> str:
    op = "DepthToSpace" if layer.reverse else "SpaceToDepth"
    return site.add(op, x.name, blocksize=layer.stride)


@exports(Tiling)
def export_tiling(site: Site, layer: Tiling, x: Value) -> str:
    return site.add("DepthToSpace", x.name, blocksize=layer.tile_dim, mode="CRD")
