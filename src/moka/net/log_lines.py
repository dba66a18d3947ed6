"""What Caffe's log says of a net while it is built, line by line, from the finished net."""

from __future__ import annotations

from collections.abc import Iterator

from moka.graph import Node
from moka.layers.base import Layer
from moka.layers.shapes import shape_text
from moka.net.memory import MemoryUse, data_bytes
from moka.schema import format_text
from moka.schema.caffe_pb2 import NetParameter
from moka.types import Shape


def opening(filtered: NetParameter) -> str:
    """The net as read, after its rules."""
    return f"Initializing net from parameters: \n{format_text(filtered)}"


def layer_lines(node: Node, layer: Layer, tops: list[Shape], memory_before: int) -> Iterator[str]:
    """One layer's set-up."""
    yield f"Creating layer {node.name}"
    yield f"Creating Layer {node.name}"
    for bottom in node.bottoms:
        yield f"{node.name} <- {bottom}"
    for j, top in enumerate(node.tops):
        yield f"{node.name} -> {top}{' (in-place)' if node.in_place(j) else ''}"
    if node.layer.blobs:
        yield "Skipping parameter initialization"
    yield from layer.notes()
    yield f"Setting up {node.name}"
    for shape, weight in zip(tops, node.loss_weights, strict=True):
        yield f"Top shape: {shape_text(shape)}"
        if weight:
            yield f"    with loss weight {weight:g}"
    yield f"Memory required for data: {memory_before + data_bytes(tops)}"


def closing(
    nodes: tuple[Node, ...],
    need_backward: list[bool],
    outputs: tuple[str, ...],
    memory: MemoryUse,
) -> Iterator[str]:
    """What runs backward, last layer first, what comes out, and what it takes."""
    for node, needed in zip(reversed(nodes), reversed(need_backward), strict=True):
        yield f"{node.name} {'needs' if needed else 'does not need'} backward computation."
    for output in outputs:
        yield f"This network produces output {output}"
    yield "Network initialization done."
    yield (
        f"Memory taken by data: {memory.data} in training, at most {memory.peak} at a time in"
        f" testing; by parameters: {memory.parameters}"
    )
