"""Where the nodes and edges of a net's drawing lie in a picture: by Graphviz's `dot` where it is
installed, else by `moka.draw.layered`.

All lengths are in points, of which an inch has 72; places are counted from the lower left corner.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from moka.draw.layered import Extent, Layout, Point, layered
from moka.draw.net_drawing import VERTICAL, Drawing, Edge

GAP = 14.0  # between nodes beside each other
RANK_GAP = {True: 18.0, False: 30.0}  # between ranks, if the data flows down, and if to the right
POINTS = 72.0
PATIENCE = 30.0  # seconds for dot

XY = tuple[float, float]  # x and y
SizeOfNode = tuple[float, float]  # width and height


@dataclass(frozen=True)
class Placed:
    """Where everything lies.

    Attributes:
        nodes: the center of each node, by its key.
        ways: of each edge the points of cubic Bezier curves: the start, then for each curve two
            points that steer and its end.
        labels: the center of each edge's label; None for an edge without one.
        size: of the whole.
    """

    nodes: dict[str, XY]
    ways: list[list[XY]]
    labels: list[XY | None]
    size: SizeOfNode

    def moved(self, dx: float, dy: float) -> Placed:
        """The same to the right by dx and up by dy."""

        def move(place: XY) -> XY:
            return place[0] + dx, place[1] + dy

        return Placed(
            {key: move(place) for key, place in self.nodes.items()},
            [[move(place) for place in way] for way in self.ways],
            [place and move(place) for place in self.labels],
            self.size,
        )


def lay_out(
    drawing: Drawing, sizes: Mapping[str, SizeOfNode], label_sizes: Sequence[SizeOfNode]
) -> Placed:
    """Lay out a drawing.

    Args:
        sizes: of each node.
        label_sizes: of each edge's label; (0, 0) for an edge without one.
    """
    placed = _by_dot(drawing, sizes, label_sizes) if drawing.nodes else None
    return placed or _by_layers(drawing, sizes, label_sizes)


# --- Graphviz -----------------------------------------------------------------------------------


def _by_dot(
    drawing: Drawing, sizes: Mapping[str, SizeOfNode], label_sizes: Sequence[SizeOfNode]
) -> Placed | None:
    """The layout of `dot`; None if it is not installed or fails."""
    program = shutil.which("dot")
    if program is None:
        return None
    text = _dot_input(drawing, sizes, label_sizes)
    try:
        done = subprocess.run(
            [program, "-Tplain"],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=True,
        )
        return _from_plain(drawing, done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None


def _dot_input(
    drawing: Drawing, sizes: Mapping[str, SizeOfNode], label_sizes: Sequence[SizeOfNode]
) -> str:
    """Nodes n0, n1, ... and edges without text, in the sizes that they will have. An edge's label
    is a table, as Graphviz measures no text of ours."""
    number = {key: f"n{i}" for i, key in enumerate(drawing.nodes)}
    gap = RANK_GAP[drawing.rankdir in VERTICAL] / POINTS
    lines = [
        f"digraph {{ rankdir={drawing.rankdir}; nodesep={GAP / POINTS}; ranksep={gap};",
        'node [shape=box, fixedsize=true, label=""]; edge [arrowhead=none];',
    ]
    for key, (width, height) in sizes.items():
        lines.append(f"{number[key]} [width={width / POINTS}, height={height / POINTS}];")
    for edge, (width, height) in zip(drawing.edges, label_sizes, strict=True):
        cell = f'<TD FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{height:.0f}"></TD>'
        label = f'<<TABLE BORDER="0" CELLPADDING="0" CELLSPACING="0"><TR>{cell}</TR></TABLE>>'
        ends = f"{number[edge.source]} -> {number[edge.target]}"
        lines.append(f"{ends} [label={label}];" if edge.label else f"{ends};")
    return "\n".join([*lines, "}", ""])


def _from_plain(drawing: Drawing, text: str) -> Placed:
    """The layout in the output of `dot -Tplain`. Raises ValueError or KeyError if it is none."""
    keys = {f"n{i}": key for i, key in enumerate(drawing.nodes)}
    nodes: dict[str, XY] = {}
    found: dict[tuple[str, str], list[tuple[list[XY], XY | None]]] = {}
    size = 0.0, 0.0
    for line in text.splitlines():
        kind, *words = shlex.split(line) or [""]
        if kind == "graph":
            size = _place(words[1:3])
        elif kind == "node":
            nodes[keys[words[0]]] = _place(words[1:3])
        elif kind == "edge":
            source, target, count = keys[words[0]], keys[words[1]], int(words[2])
            numbers, rest = words[3 : 3 + 2 * count], words[3 + 2 * count :]
            way = [_place(numbers[i : i + 2]) for i in range(0, 2 * count, 2)]
            label = _place(rest[1:3]) if len(rest) > 3 else None
            found.setdefault((source, target), []).append((way, label))
    pairs = [found[edge.source, edge.target].pop(0) for edge in drawing.edges]
    if nodes.keys() != drawing.nodes.keys():
        raise ValueError("not all nodes are there.")
    return Placed(nodes, [way for way, _ in pairs], [label for _, label in pairs], size)


def _place(words: Sequence[str]) -> XY:
    x, y = words
    return float(x) * POINTS, float(y) * POINTS


# --- by itself ----------------------------------------------------------------------------------


def _by_layers(
    drawing: Drawing, sizes: Mapping[str, SizeOfNode], label_sizes: Sequence[SizeOfNode]
) -> Placed:
    """The layout of `moka.draw.layered`, whose ranks lie along the flow of the data."""
    vertical = drawing.rankdir in VERTICAL
    boxes = {key: Extent(h, w) if vertical else Extent(w, h) for key, (w, h) in sizes.items()}
    room = max((h if vertical else w for w, h in label_sizes), default=0.0)
    ends = [(edge.source, edge.target) for edge in drawing.edges]
    layout = layered(boxes, ends, rank_gap=RANK_GAP[vertical] + room, gap=GAP)
    length, breadth = layout.size

    def at(point: Point) -> XY:
        along = length - point[0] if drawing.rankdir in ("RL", "BT") else point[0]
        return (point[1], length - along) if vertical else (along, breadth - point[1])

    ways = [_way(edge, layout, boxes) for edge in drawing.edges]
    labels = [
        at(((way[0][0] + way[1][0]) / 2, (way[0][1] + way[1][1]) / 2)) if edge.label else None
        for edge, way in zip(drawing.edges, ways, strict=True)
    ]
    return Placed(
        {key: at(point) for key, point in layout.nodes.items()},
        [[at(point) for point in smooth(way)] for way in ways],
        labels,
        (breadth, length) if vertical else (length, breadth),
    )


def _way(edge: Edge, layout: Layout, boxes: Mapping[str, Extent]) -> list[Point]:
    """The points that an edge goes through, from border to border, along and across."""
    points = layout.edges[edge.source, edge.target]
    sign = 1 if points[-1][0] > points[0][0] else -1
    start = points[0][0] + sign * boxes[edge.source].along / 2, points[0][1]
    stop = points[-1][0] - sign * boxes[edge.target].along / 2, points[-1][1]
    if (edge.target, edge.source) in layout.edges:  # beside the edge that goes the other way
        aside = sign * min(4.0, *(boxes[k].across / 4 for k in (edge.source, edge.target)))
        start, stop = (start[0], start[1] + aside), (stop[0], stop[1] + aside)
    return [start, *points[1:-1], stop]


def smooth(way: Sequence[Point]) -> list[Point]:
    """The points of cubic Bezier curves through some points: the first, then for each of the others
    two that steer and itself.

    The curves are level at both ends and never swing beyond the points: the slope at a point is the
    harmonic mean of those to its sides (Fritsch and Butland, 1984).
    """
    steps = [(q[1] - p[1]) / (q[0] - p[0]) for p, q in pairwise(way)]
    inner = [2 * m * n / (m + n) if m * n > 0 else 0.0 for m, n in pairwise(steps)]
    points = [way[0]]
    for (p, q), (m, n) in zip(pairwise(way), pairwise([0.0, *inner, 0.0]), strict=True):
        reach = (q[0] - p[0]) / 2
        points += [(p[0] + reach, p[1] + reach * m), (q[0] - reach, q[1] - reach * n), q]
    return points
