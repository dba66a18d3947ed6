"""Layers over the segments of a video."""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.dims import require_fixed
from moka.export.onnx.table import exports
from moka.layers.shapes import canonical_axis
from moka.layers.video.segments import BatchReduction, Gather, Scatter


@exports(Gather, Scatter)
def export_gather(site: Site, layer: Gather, *bottoms: Value) -> list[str]:
    return [x.name for x in bottoms]


@exports(BatchReduction)
def export_batch_reduction(site: Site, layer: BatchReduction, x: Value) -> str:
    axis = canonical_axis(layer.reduction_param.axis, x.dims)
    size = x.dims[axis]
    require_fixed(size)
    y = _own_positions(site, x, axis) if layer.pos else x.name
    counts = [size] if layer.as_a_whole else [n * n for n in layer.levels]
    parts = [y]
    if len(counts) > 1:
        parts = site.add_several("Split", y, site.ints(*counts), outputs=len(counts), axis=axis)
    reduced = [_reduced(site, layer, part, axis, keep=not layer.as_a_whole) for part in parts]
    return site.add("Concat", *reduced, axis=axis) if len(reduced) > 1 else reduced[0]


def _own_positions(site: Site, x: Value, axis: int) -> str:
    """Of segment t position t alone: (..., T, T, rest...) to (..., T, rest...)."""
    size = x.dims[axis]
    rest = (1,) * (len(x.dims) - axis - 2)
    diagonal = site.constant(np.eye(size, dtype=bool).reshape(size, size, *rest), "diagonal")
    alone = site.add("Where", diagonal, x.name, site.number(0))
    return site.reduce("ReduceSum", alone, [axis + 1], keep=False)


def _reduced(site: Site, layer: BatchReduction, x: str, axis: int, *, keep: bool) -> str:
    if layer.operation == "TOPK":
        count = site.ints(layer.reduction_param.k)
        x, _ = site.add_several("TopK", x, count, outputs=2, axis=axis)
    op = "ReduceSum" if layer.operation == "SUM" else "ReduceMean"
    return site.reduce(op, x, [axis], keep=keep)
