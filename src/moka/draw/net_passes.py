"""Passes over a net's drawing that make a large net readable; each returns another drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from moka.draw.layered import ranks, without_cycles
from moka.draw.net_drawing import VERTICAL, Drawing, DrawnNode, Edge
from moka.draw.net_shapes import UNKNOWN

ONE_LAYER = 2  # ranks: its own and that of its blob
COPY = "\0copy"  # ends the key of a blob that is drawn once more


def fold_in_place(drawing: Drawing) -> Drawing:
    """Write the layers that change a blob in place into the blob's own node."""
    folded: dict[str, list[str]] = {}
    for node in drawing.nodes.values():
        if node.in_place:
            folded.setdefault(node.in_place, []).append(" ".join(node.lines))
    nodes = {
        key: replace(node, in_place_lines=tuple(folded.get(key, ())))
        for key, node in drawing.nodes.items()
        if not node.in_place
    }
    edges = tuple(e for e in drawing.edges if e.source in nodes and e.target in nodes)
    return replace(drawing, nodes=nodes, edges=edges)


def in_two_lines(drawing: Drawing, rankdir: str) -> Drawing:
    """Turn a drawing that flows to the right into one that flows down or up, where narrow nodes
    matter: a layer's name and type in one line, the rest in a second one."""

    def joined(node: DrawnNode) -> DrawnNode:
        lines = (" ".join(node.lines[:2]), " ".join(node.lines[2:]))
        return node if node.is_blob else replace(node, lines=tuple(filter(None, lines)))

    nodes = {key: joined(node) for key, node in drawing.nodes.items()}
    return replace(drawing, rankdir=rankdir, nodes=nodes)


def add_shapes(drawing: Drawing, shapes: Mapping[str, Sequence[str]]) -> Drawing:
    """Write shapes, as 64x3x224x224, into the nodes of blobs, given by name."""

    def with_shape(key: str, node: DrawnNode) -> DrawnNode:
        shape = shapes.get(key.removesuffix("_blob")) if node.is_blob else None
        if not shape or set(shape) == {UNKNOWN}:
            return node
        text = "x".join(shape)
        if drawing.rankdir in VERTICAL:
            return replace(node, lines=(f"{node.lines[0]} {text}",))
        return replace(node, lines=(*node.lines, text))

    return replace(drawing, nodes={k: with_shape(k, node) for k, node in drawing.nodes.items()})


def join_parallel(drawing: Drawing) -> Drawing:
    """Join edges between the same two nodes and their labels; layers of two phases have such."""
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for edge in drawing.edges:
        known = labels.setdefault((edge.source, edge.target), {})
        known |= {edge.label: None} if edge.label else {}
    edges = tuple(Edge(*ends, ", ".join(texts)) for ends, texts in labels.items())
    return replace(drawing, edges=edges)


def layer_count(drawing: Drawing) -> int:
    """The number of layers that a drawing shows, folded ones included."""
    return sum(len(n.in_place_lines) if n.is_blob else 1 for n in drawing.nodes.values())


def cut(drawing: Drawing, count: int) -> list[Drawing]:
    """Cut a drawing across the flow of the data into at most `count` parts of about equal length.

    A part that uses a blob of another one has a copy of it. The cuts lie where few blobs are in
    use on both sides.
    """
    ends = [(edge.source, edge.target) for edge in drawing.edges]
    rank = ranks(drawing.nodes, without_cycles(drawing.nodes, ends))
    layers = [key for key, node in drawing.nodes.items() if not node.is_blob]
    layers.sort(key=rank.__getitem__)  # branches run side by side, though listed one by one
    starts = _cuts(drawing, layers, [rank[key] for key in layers], count)
    part_of = {key: sum(i >= start for start in starts) for i, key in enumerate(layers)}
    for edge in drawing.edges:  # a blob belongs to the layer that makes it
        if edge.source in part_of:
            part_of.setdefault(edge.target, part_of[edge.source])
    for edge in drawing.edges:  # or reads it first
        part_of.setdefault(edge.source, part_of.get(edge.target, 0))
    return [_part(drawing, part_of, k) for k in range(len(starts) + 1)]


def _cuts(drawing: Drawing, layers: Sequence[str], depth: Sequence[int], count: int) -> list[int]:
    """The numbers of the layers that begin a part, but for the first.

    Args:
        depth: the rank of each layer, never falling.
    """
    number = {key: i for i, key in enumerate(layers)}
    made: dict[str, int] = {}  # the first layer that uses each blob, and the last
    used: dict[str, int] = {}
    for edge in drawing.edges:
        layer, blob = (
            (number[edge.source], edge.target)
            if edge.source in number
            else (number[edge.target], edge.source)
        )
        made[blob] = min(made.get(blob, layer), layer)
        used[blob] = max(used.get(blob, layer), layer)
    crossing = [0] * (len(layers) + 1)  # blobs in use before and after the start of a layer
    for blob, first in made.items():
        for i in range(first + 1, used[blob] + 1):
            crossing[i] += 1
    total = depth[-1] + 1 if depth else 1
    starts: list[int] = []
    for k in range(1, count):
        wanted, reach = total * k / count, max(total / count / 4, ONE_LAYER)
        near = [
            i
            for i in range((starts or [0])[-1] + 1, len(layers))
            if abs(depth[i] - wanted) <= reach and depth[i] > depth[i - 1]
        ]
        if near:
            starts.append(min(near, key=lambda i: (crossing[i], abs(depth[i] - wanted))))
    return starts


def _part(drawing: Drawing, part_of: Mapping[str, int], part: int) -> Drawing:
    nodes: dict[str, DrawnNode] = {}
    edges: list[Edge] = []

    def key_here(key: str) -> str:
        """The key of an edge's end in this part; a blob of another part is copied."""
        if part_of[key] == part:
            return key
        node = drawing.nodes[key]
        nodes.setdefault(key + COPY, replace(node, in_place_lines=(), is_copy=True))
        return key + COPY

    for edge in drawing.edges:
        layer = edge.target if drawing.nodes[edge.source].is_blob else edge.source
        if part_of[layer] == part:
            edges.append(replace(edge, source=key_here(edge.source), target=key_here(edge.target)))
    nodes |= {key: node for key, node in drawing.nodes.items() if part_of.get(key, 0) == part}
    return replace(drawing, nodes=nodes, edges=tuple(edges))
