"""Layers that pick or score: ArgMax; Accuracy, which exported nets leave out."""

from __future__ import annotations

from math import prod

import numpy as np

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.dims import require_fixed
from moka.export.onnx.table import exports, leave_out
from moka.layers.metric import Accuracy, ArgMax, EltwiseAccuracy, MultiLabelAccuracy
from moka.layers.shapes import canonical_axis

leave_out(Accuracy, EltwiseAccuracy, MultiLabelAccuracy)


@exports(ArgMax)
def export_argmax(site: Site, layer: ArgMax, x: Value) -> str:
    """TopK of the reversed values: of equal ones it takes the first, Caffe the last."""
    top = site.tops[0]
    flat = layer.axis is None
    if layer.axis is None:
        x = site.reshaped(x, (x.dims[0], prod(x.dims[1:])))
    axis = 1 if layer.axis is None else canonical_axis(layer.axis, x.dims)
    size = x.dims[axis]
    require_fixed(size)
    reversed_ = site.add(
        "Slice",
        x.name,
        site.ints(-1),
        site.ints(np.iinfo(np.int64).min),
        site.ints(axis),
        site.ints(-1),
    )
    values, order = site.add_several(
        "TopK", reversed_, site.ints(layer.top_k), outputs=2, axis=axis
    )
    if layer.out_max_val and not flat:
        return values
    index = site.add("Cast", site.add("Sub", site.ints(size - 1), order), to=FLOAT)
    if layer.out_max_val:
        index = site.add("Concat", index, values, axis=1)
    length = (2 if layer.out_max_val else 1) * layer.top_k
    return site.reshape(Value(index, (x.dims[0], length)), top) if flat else index
