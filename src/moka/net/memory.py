"""How much memory a net's blobs and parameters take: as Caffe counts it, and in truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from moka.graph import Node
from moka.types import Shape

FLOAT_BYTES = 4


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a net's float32 numbers.

    Attributes:
        counted: every top of every layer, in-place and shared ones again: Caffe's "Memory
            required for data".
        data: every array once, as training keeps them.
        peak: the most that lives at once when each is let go after its last reader, as in testing.
        parameters: learned and other blobs of layers, shared ones once.
    """

    counted: int
    data: int
    peak: int
    parameters: int


def data_bytes(tops: Sequence[Shape]) -> int:
    """Bytes of float32 arrays of these shapes."""
    return FLOAT_BYTES * sum(prod(shape) for shape in tops)


def memory_use(
    nodes: Sequence[Node],
    shapes: Mapping[str, Shape],
    views: Sequence[bool],
    parameters: Sequence[Shape],
) -> MemoryUse:
    """What a net takes.

    Args:
        nodes: the layers in order.
        shapes: of every blob.
        views: for each layer, whether its tops lie in its first bottom's memory.
        parameters: shapes of all parameters, each once.
    """
    arrays: list[Shape] = []
    made: list[int] = []  # by which layer
    last: list[int] = []  # which layer reads it last
    array_of: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for bottom in node.bottoms:
            last[array_of[bottom]] = i
        for j, top in enumerate(node.tops):
            if node.in_place(j):
                continue
            if views[i]:
                array_of[top] = array_of[node.bottoms[0]]
                continue
            array_of[top] = len(arrays)
            arrays.append(shapes[top])
            made.append(i)
            last.append(i)
    for name in {top for node in nodes for top in node.tops} - {
        bottom for node in nodes for bottom in node.bottoms
    }:
        last[array_of[name]] = len(nodes)  # an output stays
    sizes = [data_bytes([shape]) for shape in arrays]
    peak = max(
        (
            sum(size for size, a, b in zip(sizes, made, last, strict=True) if a <= i <= b)
            for i in range(len(nodes))
        ),
        default=0,
    )
    counted = data_bytes([shapes[top] for node in nodes for top in node.tops])
    return MemoryUse(counted, sum(sizes), peak, data_bytes(parameters))
