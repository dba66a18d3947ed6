"""One layer of a net, with all that running it needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from moka.graph import BackwardMarks, Node
from moka.layers.base import Layer
from moka.net.half import Half


@dataclass(frozen=True)
class Place:
    """A layer in its place in a net.

    Attributes:
        index: its position in running order.
        node: its name, type, bottoms and tops.
        layer: the layer itself.
        marks: what takes part in the backward pass.
        detached: indices of bottoms to detach from the gradient.
        freed: blobs that no later layer reads or writes.
        half: what of its tops is rounded to half precision.
        observers: (top index, earlier in-place layer that needs to see this top).
    """

    index: int
    node: Node
    layer: Layer
    marks: BackwardMarks
    detached: tuple[int, ...]
    freed: tuple[str, ...]
    half: Half | None
    observers: tuple[tuple[int, Layer], ...]
