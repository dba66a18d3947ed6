"""Layers that put the values of a blob into another order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.reorder import Flip, Reverse, ShuffleChannel, Transpose
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
