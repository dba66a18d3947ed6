"""Images moved by a field of flow, and the length of such a field's vectors."""

from __future__ import annotations

from functools import reduce

import numpy as np

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.sampling import bilinear
from moka.export.onnx.table import exports
from moka.layers.flow.warp import ChannelNorm, FlowWarp


@exports(FlowWarp, fixed_from=1)
def export_flow_warp(site: Site, layer: FlowWarp, x: Value, flow: Value) -> str:
    height, width = x.dims[2:]
    across, down = (
        site.add("Squeeze", part, site.ints(1))
        for part in site.add_several("Split", flow.name, site.ints(1, 1), outputs=2, axis=1)
    )
    rows = site.add("Add", site.parts(np.arange(height)[:, None]), down)
    columns = site.add("Add", site.parts(np.arange(width)), across)
    zero = site.number(0)
    tests = [
        test
        for at, size in ((rows, height), (columns, width))
        for test in (
            site.add("GreaterOrEqual", at, zero),
            site.add("Less", at, site.number(size)),
        )
    ]
    inside = reduce(lambda a, b: site.add("And", a, b), tests)
    rows, columns = (site.add("Where", inside, at, zero) for at in (rows, columns))
    y = bilinear(site, x, rows, columns, (height, width), repeat_edge=True)
    fill = zero if layer.fill_value == "ZERO" else site.number(float("nan"))
    return site.add("Where", site.add("Unsqueeze", inside, site.ints(1)), y, fill)


@exports(ChannelNorm)
def export_channel_norm(site: Site, layer: ChannelNorm, x: Value) -> str:
    return site.reduce("ReduceL2", x.name, [1], keep=True)
