"""How many images a pass of a net takes."""

from __future__ import annotations

from moka.layers.source import Source
from moka.net import Net


def batch_size(net: Net) -> int:
    """The length of the first top of the first data layer that has axes; 0 if there is none."""
    tops = (
        node.tops[0]
        for node, (_, layer) in zip(net.graph.nodes, net.named_layers(), strict=True)
        if isinstance(layer, Source) and node.tops
    )
    shapes = (net.blobs[top].shape for top in tops)
    return next((shape[0] for shape in shapes if shape), 0)
