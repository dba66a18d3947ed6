"""The sentences of Caffe's log about a net that is being built, in Caffe's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moka.graph import LearnableBlob, Node
from moka.layers.base import Layer
from moka.layers.shapes import shape_text
from moka.net.memory import MemoryUse
from moka.net.place import Place
from moka.schema import format_text
from moka.schema.caffe_pb2 import NetParameter


def opening(filtered: NetParameter) -> str:
    """The sentence that shows the net with the layers that its rules keep."""
    return f"Initializing net from parameters: \n{format_text(filtered)}"


def of_layer(node: Node, layer: Layer, counted_bytes: int) -> Iterator[str]:
    """Sentences about the set-up of one layer.

    Args:
        counted_bytes: of all tops so far, this layer's among them.
    """
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
    for shape, weight in zip(layer.first_top_shapes, node.loss_weights, strict=True):
        yield f"Top shape: {shape_text(shape)}"
        if weight:
            yield f"    with loss weight {weight:g}"
    yield f"Memory required for data: {counted_bytes}"


def of_shared_parameter(blob: LearnableBlob, owner: Node) -> str:
    """The sentence about a parameter that the layer just set up shares with an earlier one."""
    return (
        f"Sharing parameters '{blob.name}' owned by layer '{owner.name}', param index"
        f" {blob.owner[1]}"
    )


def closing(places: Sequence[Place], outputs: Sequence[str], memory: MemoryUse) -> Iterator[str]:
    """Sentences on which layers run backward, last layer first; the outputs; the memory."""
    for place in reversed(places):
        needed = "needs" if place.marks.layer else "does not need"
        yield f"{place.node.name} {needed} backward computation."
    for output in outputs:
        yield f"This network produces output {output}"
    yield "Network initialization done."
    yield (
        f"Memory taken by data: {memory.data} in training, at most {memory.peak} at a time in"
        f" testing; by parameters: {memory.parameters}"
    )
