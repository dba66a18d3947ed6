"""How many iterations a pass over the training data takes."""

from __future__ import annotations

from typing import NamedTuple

from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.layers.source import Source
from moka.solver.config import NetToBuild


class Epoch(NamedTuple):
    """records: how many the data holds; batch: how many of them a pass takes."""

    records: int
    batch: int


def epoch_of(net: NetToBuild) -> Epoch | None:
    """The records and the batch of the first layer that reads files and knows how many there are.

    The net is not built; code of the user's own is not run. None: no layer knows.

    Raises:
        MokaError: the graph is wrong, or the data cannot be opened.
    """
    for node in build_graph(net.param, REGISTRY, file=net.file).nodes:
        entry = REGISTRY[node.type]
        if node.bottoms or entry.source != "files" or entry.runs_user_code:
            continue
        layer: Layer = entry.make(node.layer)
        if not isinstance(layer, Source):
            continue
        try:
            records = layer.record_count()
            if records:
                return Epoch(records, layer.top_shapes()[0][0])
        finally:
            layer.close()
    return None
