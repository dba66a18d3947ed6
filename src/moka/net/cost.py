"""How much a net computes."""

from __future__ import annotations

from moka.net import Net
from moka.net.place import Place


def multiply_adds(net: Net) -> int:
    """Multiplications with weights, each with its addition, in one forward pass of the batch."""
    return sum(layer_multiply_adds(net, place) for place in net.places)


def layer_multiply_adds(net: Net, place: Place) -> int:
    """Those of one layer."""
    return place.layer.multiply_adds(
        [tuple(net.blobs[name].shape) for name in place.node.bottoms],
        [tuple(net.blobs[name].shape) for name in place.node.tops],
    )
