"""Shapes for missing data with which a net can be built, where its text tells none that fit.

Labels and the datasets of HDF5 files may have any shape. The layers that read them say which: those
that refuse the shapes tried so far are asked with others, until all of them agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress

from moka.errors import MokaError
from moka.graph import Graph, Node
from moka.layers import REGISTRY
from moka.layers.source import Source
from moka.net.outline import META, silence
from moka.types import Shape

Ranks = tuple[int, int]

_MOST_TRIES = 200
_WIDTHS = tuple(2**k for k in range(11))  # of rows of data, where nothing tells theirs


class Fitting:
    """Finds shapes for the tops of data layers whose files are missing.

    Args:
        graph: the net.
        ranks: for each of these tops the least and the greatest number of its axes.
    """

    def __init__(self, graph: Graph, ranks: Mapping[str, Ranks]) -> None:
        self.nodes = graph.nodes
        self.ranks = ranks
        self.origins = _origins(graph, ranks.keys())
        self._tops: dict[tuple[int, tuple[Shape, ...]], list[Shape] | None] = {}
        self._tries = 0

    def shapes(self, first: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes near the first ones with which as many layers as possible can be made.

        Args:
            first: for each free top the likeliest shape.
        """
        given = dict(first)
        with silence(), META:
            blobs, stuck = self._walk(given)
            while stuck is not None:
                better = next(self._better(given, blobs, stuck), None)
                if better is None:
                    break
                given = better
                blobs, stuck = self._walk(given)
        return given

    def _better(
        self, given: dict[str, Shape], blobs: Mapping[str, Shape], stuck: int
    ) -> Iterator[dict[str, Shape]]:
        """Shapes that bring the net past the layer at which it is stuck."""
        node = self.nodes[stuck]
        origins = set().union(*(self.origins.get(name, frozenset()) for name in node.bottoms))
        for top in sorted(origins, key=list(given).index, reverse=True):  # labels come last
            others = [blobs[name] for name in node.bottoms if top not in self.origins.get(name, ())]
            for shape in dict.fromkeys(self._candidates(given, top, node, others)):
                if self._tries >= _MOST_TRIES:
                    return
                tried = {**given, top: shape}
                _, reached = self._walk(tried, stuck)
                if reached is None or reached > stuck:
                    yield tried

    def _candidates(
        self, given: Mapping[str, Shape], top: str, node: Node, others: Sequence[Shape]
    ) -> Iterator[Shape]:
        """Shapes for a top that a layer may accept beside its other bottoms."""
        least, most = self.ranks[top]
        for shape in self._wishes(given, top, node, others):
            if len(shape) <= most:
                yield (*shape, *(1,) * (least - len(shape)))

    def _wishes(
        self, given: Mapping[str, Shape], top: str, node: Node, others: Sequence[Shape]
    ) -> Iterator[Shape]:
        for other in others:
            yield from _variants(other)
        count = given[top][:1]
        yield count
        yield from ((*count, width) for width in _WIDTHS)
        yield from self._solutions(given, top, node, others)
        yield (*count, 1, 1, 1)

    def _solutions(
        self, given: Mapping[str, Shape], top: str, node: Node, others: Sequence[Shape]
    ) -> Iterator[Shape]:
        """Rows whose width makes the layer's bottom as wide as another one, where the width of the
        bottom is a linear function of that of the rows: (N, K) sliced, say."""
        stuck = self.nodes.index(node)
        derived = [name for name in node.bottoms if top in self.origins.get(name, ())]
        more = (1,) * (self.ranks[top][0] - 2)
        for width in _WIDTHS:
            seen = []
            for k in (width, width + 1):
                blobs, reached = self._walk({**given, top: (*given[top][:1], k, *more)}, stuck - 1)
                seen.append(
                    [blobs[name] for name in derived]
                    if reached is None and all(name in blobs for name in derived)
                    else []
                )
            for one, two in zip(*seen, strict=False):
                for axis, (a, b) in enumerate(zip(one, two, strict=False)):
                    for other in others:
                        if b != a and axis < len(other) and (other[axis] - a) % (b - a) == 0:
                            yield (*given[top][:1], width + (other[axis] - a) // (b - a))

    def _walk(
        self, given: Mapping[str, Shape], last: int | None = None
    ) -> tuple[dict[str, Shape], int | None]:
        """The shapes of blobs, and the first layer (up to `last`) that refuses its bottoms."""
        self._tries += 1
        blobs: dict[str, Shape] = {}
        for number, node in enumerate(self.nodes[: None if last is None else last + 1]):
            if node.tops and all(top in given for top in node.tops) and not node.bottoms:
                blobs.update((top, given[top]) for top in node.tops)
                continue
            tops = self._made(number, node, tuple(blobs[name] for name in node.bottoms))
            if tops is None:
                return blobs, number
            blobs.update(zip(node.tops, tops, strict=False))
        return blobs, None

    def _made(self, number: int, node: Node, bottoms: tuple[Shape, ...]) -> list[Shape] | None:
        """The shapes of a layer's tops; None if it refuses its bottoms."""
        key = number, bottoms
        if key not in self._tops:
            self._tops[key] = None
            with suppress(MokaError):
                layer = REGISTRY[node.type].make(node.layer, *bottoms)
                self._tops[key] = layer.first_top_shapes
                if isinstance(layer, Source):
                    layer.close()
        return self._tops[key]


def _origins(graph: Graph, free: Set[str]) -> dict[str, frozenset[str]]:
    """For each blob the free tops that it is computed from."""
    found: dict[str, frozenset[str]] = {top: frozenset((top,)) for top in free}
    for node in graph.nodes:
        if node.bottoms:
            below = frozenset().union(*(found.get(name, frozenset()) for name in node.bottoms))
            found.update((top, below) for top in node.tops)
    return found


def _variants(shape: Shape) -> Iterator[Shape]:
    """Shapes that labels of a blob of this shape have: as it is, with one number in place of each
    axis 1, without that axis, and its first axes alone."""
    yield shape
    if len(shape) > 1:
        yield (shape[0], 1, *shape[2:])
        yield (shape[0], *shape[2:])
    for count in range(len(shape) - 1, 0, -1):
        yield shape[:count]
