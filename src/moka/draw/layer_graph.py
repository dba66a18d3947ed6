"""A net as boxes of layers with edges of blobs, laid out from top to bottom, for a page that draws
them. In-place layers and blocks of layers can be folded into one box."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from moka.draw.layered import Ends, Extent, Point, layered
from moka.draw.net_drawing import in_phase, layer_color, layer_lines
from moka.schema import caffe_pb2

LETTER, LINE, PAD = 7.2, 17.0, 10.0  # pixels: a letter's width, a line's height, room in a box
RANK_GAP, GAP = 34.0, 22.0
LEAST_BLOCK = 3  # layers
_BLOCK = re.compile(r"^(.+?)(?:/|_branch|_(?=\d+x\d+))")


@dataclass(frozen=True)
class LayerBox:
    """A layer with its in-place layers, or a block of layers.

    Attributes:
        lines: its label.
        layers: the names of the layers in it.
        color: #RRGGBB.
        block: the name of the block that the layer belongs to; "": none.
        is_block: it stands for a whole block.
        repeats: of a block: how many blocks of the net are made of the same types.
    """

    lines: tuple[str, ...]
    layers: tuple[str, ...]
    color: str
    block: str = ""
    is_block: bool = False
    repeats: int = 1


@dataclass(frozen=True)
class LayerGraph:
    """Boxes by key in the order of the net, and edges, each with the names of its blobs."""

    boxes: dict[str, LayerBox]
    edges: dict[Ends, tuple[str, ...]]


@dataclass(frozen=True)
class PlacedGraph:
    """A graph with places in pixels: each box's center and size, the points of each edge."""

    graph: LayerGraph
    centers: dict[str, Point]
    sizes: dict[str, tuple[float, float]]
    ways: dict[Ends, list[Point]]
    width: float
    height: float


def layer_graph(net: caffe_pb2.NetParameter, phase: caffe_pb2.Phase | None = None) -> LayerGraph:
    """The layers of a net in today's form as boxes; in-place layers are in the box of the layer
    that makes their blob.

    Args:
        phase: draw only the layers of this phase; None: all.
    """
    boxes: dict[str, LayerBox] = {}
    edges: dict[Ends, tuple[str, ...]] = {}
    maker: dict[str, str] = {}  # of each blob: the key of the box
    for number, layer in enumerate(net.layer):
        if phase is not None and not in_phase(layer, phase):
            continue
        bottoms, tops = list(layer.bottom), list(layer.top)
        if len(bottoms) == 1 and bottoms == tops and bottoms[0] in maker:
            key = maker[bottoms[0]]
            box = boxes[key]
            boxes[key] = replace(
                box,
                lines=(*box.lines, f"+ {layer.name} ({layer.type})"),
                layers=(*box.layers, layer.name),
            )
            continue
        key = f"{number}"
        boxes[key] = LayerBox(
            layer_lines(layer), (layer.name,), layer_color(layer.type), block_name(layer.name)
        )
        for blob in bottoms:
            if blob in maker and maker[blob] != key:
                ends = maker[blob], key
                edges[ends] = tuple(dict.fromkeys((*edges.get(ends, ()), blob)))
        maker |= dict.fromkeys(tops, key)
    return LayerGraph(boxes, edges)


def block_name(layer: str) -> str:
    """The block that a layer's name tells: `fire2` of fire2/squeeze1x1, `res2a` of res2a_branch1,
    `inception_3a` of inception_3a/1x1; "" if it tells none."""
    found = _BLOCK.match(layer)
    return found[1] if found else ""


def fold_blocks(graph: LayerGraph, open_blocks: Sequence[str] = ()) -> LayerGraph:
    """The graph with one box for each block of at least three layers, but for those that are open.

    Blocks that are made of the same types of layers are told to be repeats of each other.
    """
    members: dict[str, list[str]] = {}
    for key, box in graph.boxes.items():
        if box.block:
            members.setdefault(box.block, []).append(key)
    folded = {
        name: keys
        for name, keys in members.items()
        if len(keys) >= LEAST_BLOCK and name not in open_blocks
    }
    kinds = {
        name: tuple(graph.boxes[key].lines[1:2] for key in keys) for name, keys in folded.items()
    }
    counts = Counter(kinds.values())
    home = {key: f"block {name}" for name, keys in folded.items() for key in keys}
    boxes: dict[str, LayerBox] = {}
    for key, box in graph.boxes.items():
        place = home.get(key, key)
        if place == key:
            boxes[key] = box
        elif place not in boxes:
            layers = tuple(n for each in folded[box.block] for n in graph.boxes[each].layers)
            said = f"{len(layers)} layers"
            boxes[place] = LayerBox(
                (box.block, said), layers, box.color, box.block, True, counts[kinds[box.block]]
            )
    edges: dict[Ends, tuple[str, ...]] = {}
    for (source, target), blobs in graph.edges.items():
        ends = home.get(source, source), home.get(target, target)
        if ends[0] != ends[1]:
            edges[ends] = tuple(dict.fromkeys((*edges.get(ends, ()), *blobs)))
    return LayerGraph(boxes, edges)


def lay_out_layers(graph: LayerGraph, notes: Mapping[str, str] | None = None) -> PlacedGraph:
    """Places for all boxes, from top to bottom.

    Args:
        notes: one more line for boxes, by key, such as the shape of what they make.
    """
    notes = notes or {}
    sizes: dict[str, tuple[float, float]] = {}
    for key, box in graph.boxes.items():
        lines = [*box.lines, *([notes[key]] if key in notes else [])]
        sizes[key] = (
            LETTER * max(map(len, lines)) + 2 * PAD,
            LINE * len(lines) + 2 * PAD - 4,
        )
    extents = {key: Extent(height, width) for key, (width, height) in sizes.items()}
    laid = layered(extents, list(graph.edges), rank_gap=RANK_GAP, gap=GAP)
    return PlacedGraph(
        graph,
        {key: (x, y) for key, (y, x) in laid.nodes.items()},
        sizes,
        {ends: [(x, y) for y, x in way] for ends, way in laid.edges.items()},
        laid.size.across,
        laid.size.along,
    )
