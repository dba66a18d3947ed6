"""How much a net computes."""

from __future__ import annotations

from moka.net import Net


def multiply_adds(net: Net) -> int:
    """Multiplications with weights, each with its addition, in one forward pass of the batch."""
    return sum(
        place.layer.multiply_adds(
            [tuple(net.blobs[name].shape) for name in place.node.bottoms],
            [tuple(net.blobs[name].shape) for name in place.node.tops],
        )
        for place in net.places
    )
