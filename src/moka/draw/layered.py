"""Lay out a directed graph in ranks, so that its edges point from rank to rank.

The steps are those of Sugiyama, Tagawa and Toda, Methods for visual understanding of hierarchical
system structures, 1981: give each node a rank, cut edges over several ranks into pieces, order each
rank so that few pieces cross, and place each node close to its neighbors.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

SWEEPS = 12  # over all ranks, for the order
PULLS = 100  # over all ranks, for the places
KNEE = "\0"  # in the name of a place where a long edge passes a rank

Ends = tuple[str, str]
Point = tuple[float, float]


class Extent(NamedTuple):
    """The size of a node: in the direction of the edges, and across it."""

    along: float
    across: float


class Layout(NamedTuple):
    """Where everything lies: points are (along, across), from (0, 0) on.

    Attributes:
        nodes: the center of each node.
        edges: the points that each edge goes through, from the source's center to the target's.
        size: of the whole.
    """

    nodes: dict[str, Point]
    edges: dict[Ends, list[Point]]
    size: Extent


def layered(
    boxes: Mapping[str, Extent], edges: Sequence[Ends], *, rank_gap: float, gap: float
) -> Layout:
    """Lay out a graph. If it has cycles, the edges that close them go backward.

    Args:
        boxes: the nodes' sizes, in the wanted order of the nodes.
        rank_gap: room between two ranks.
        gap: room between two nodes of a rank.
    """
    forward = without_cycles(boxes, edges)
    rank = ranks(boxes, forward)
    pieces: list[Ends] = []
    chains: dict[Ends, list[str]] = {}
    sizes, rank_of = dict(boxes), dict(rank)
    for source, target in forward:
        knees = [f"{source}{KNEE}{target}{KNEE}{r}" for r in range(rank[source] + 1, rank[target])]
        for r, knee in enumerate(knees, rank[source] + 1):
            sizes[knee], rank_of[knee] = Extent(0, gap / 2), r
        chains[source, target] = [source, *knees, target]
        pieces += zip([source, *knees], [*knees, target], strict=True)
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for name, r in rank_of.items():
        rows[r].append(name)
    rows = ordered(rows, pieces)
    across = row_places(rows, pieces, {name: box.across for name, box in sizes.items()}, gap)
    along, start = {}, 0.0
    for row in rows:
        depth = max(sizes[name].along for name in row)
        along.update(dict.fromkeys(row, start + depth / 2))
        start += depth + rank_gap
    points = {name: (along[name], across[name]) for name in rank_of}
    lines = {ends: [points[name] for name in chain] for ends, chain in chains.items()}
    for source, target in edges:
        lines.setdefault((source, target), [points[source], points[target]])
    breadth = max((across[name] + sizes[name].across / 2 for name in across), default=0.0)
    size = Extent(max(start - rank_gap, 0.0), breadth)
    return Layout({name: points[name] for name in boxes}, lines, size)


def without_cycles(nodes: Mapping[str, object], edges: Sequence[Ends]) -> list[Ends]:
    """The edges but for those that lead back to a node on the path to them."""
    after = _neighbors(edges)
    done: set[str] = set()
    back: set[Ends] = set()
    for root in nodes:
        path: dict[str, int] = {}  # the nodes on the way, with how many edges have been followed
        if root not in done:
            path[root] = 0
        while path:
            node, followed = path.popitem()
            if followed == len(after[node]):
                done.add(node)
                continue
            path[node] = followed + 1
            target = after[node][followed]
            if target in path:
                back.add((node, target))
            elif target not in done:
                path[target] = 0
    return [ends for ends in edges if ends not in back]


def ranks(nodes: Mapping[str, object], edges: Sequence[Ends]) -> dict[str, int]:
    """The rank of each node: the length of the longest path to it. A node without a path to it has
    the rank before its first target. The edges must have no cycle."""
    before, after = _neighbors([(t, s) for s, t in edges]), _neighbors(edges)
    missing = {name: len(before[name]) for name in nodes}
    ready = [name for name in nodes if not missing[name]]
    rank = dict.fromkeys(nodes, 0)
    for name in ready:
        for target in after[name]:
            rank[target] = max(rank[target], rank[name] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    for name in nodes:
        if not before[name] and after[name]:
            rank[name] = min(rank[target] for target in after[name]) - 1
    return rank


def ordered(rows: Sequence[Sequence[str]], pieces: Sequence[Ends]) -> list[list[str]]:
    """The rows, each in an order in which few pieces cross.

    Nodes are sorted by the mean place of their neighbors, in the row before and in the row after by
    turns; the best order seen is returned.
    """
    before, after = _neighbors([(t, s) for s, t in pieces]), _neighbors(pieces)
    best = tried = [list(row) for row in rows]
    least = crossings(best, after)
    for sweep in range(SWEEPS):
        tried = [list(row) for row in tried]
        joined, step = (before, 1) if sweep % 2 == 0 else (after, -1)
        for previous, row in pairwise(tried[::step]):
            at = {name: i for i, name in enumerate(previous)}
            means = {
                name: sum(at[n] for n in joined[name]) / len(joined[name]) if joined[name] else i
                for i, name in enumerate(row)
            }
            row.sort(key=means.__getitem__)
        count = crossings(tried, after)
        if count < least:
            best, least = tried, count
    return best


def crossings(rows: Sequence[Sequence[str]], after: Mapping[str, Sequence[str]]) -> int:
    """How many pairs of pieces cross, since their ends are in opposite order."""
    total = 0
    for row, following in pairwise(rows):
        at = {name: i for i, name in enumerate(following)}
        seen: list[int] = []
        for name in row:
            ends = sorted(at[target] for target in after[name])
            total += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def row_places(
    rows: Sequence[Sequence[str]], pieces: Sequence[Ends], sizes: Mapping[str, float], gap: float
) -> dict[str, float]:
    """The center of each node across its row: near the mean of its neighbors, in the order of the
    row, and with a gap between two nodes."""
    before, after = _neighbors([(t, s) for s, t in pieces]), _neighbors(pieces)

    def pull(name: str, other: str) -> float:
        """Weight of a piece's straightness: highest for long edges, lowest for dead ends."""
        if KNEE in name or KNEE in other:
            return 2.0
        return 0.2 if min(len(joined[n]) for n in (name, other)) == 1 else 1.0

    joined = {name: before[name] + after[name] for row in rows for name in row}
    pulls = {name: [(other, pull(name, other)) for other in joined[name]] for name in joined}
    place = dict.fromkeys(joined, 0.0)
    for sweep in range(PULLS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wished, weights = [], []
            for name in row:
                weight = sum(w for _, w in pulls[name])
                mean = sum(w * place[n] for n, w in pulls[name]) / weight if weight else place[name]
                wished.append(mean)
                weights.append(weight + 0.01)
            place |= zip(row, apart(wished, [sizes[n] for n in row], gap, weights), strict=True)
    least = min((place[name] - sizes[name] / 2 for name in place), default=0.0)
    return {name: at - least for name, at in place.items()}


def apart(
    wished: Sequence[float],
    sizes: Sequence[float],
    gap: float,
    weights: Sequence[float] | None = None,
) -> list[float]:
    """Centers as near to the wished ones as their order and a gap between two boxes allow.

    Nearest by the weighted sum of squares, found by pooling boxes that are in each other's way.
    """
    offsets, total = [], 0.0
    for i, size in enumerate(sizes):
        total += (sizes[i - 1] + size) / 2 + gap if i else 0.0
        offsets.append(total)
    blocks: list[tuple[float, float, int]] = []  # mean wish, weight, count
    for i, at in enumerate(wished):
        mean, weight, count = at - offsets[i], weights[i] if weights else 1.0, 1
        while blocks and blocks[-1][0] >= mean:
            other, its_weight, its_count = blocks.pop()
            mean = (mean * weight + other * its_weight) / (weight + its_weight)
            weight, count = weight + its_weight, count + its_count
        blocks.append((mean, weight, count))
    starts = [mean for mean, _, count in blocks for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _neighbors(edges: Sequence[Ends]) -> defaultdict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        found[source].append(target)
    return found
