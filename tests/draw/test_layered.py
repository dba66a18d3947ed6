from __future__ import annotations

import itertools

import pytest

from moka.draw.layered import (
    Extent,
    apart,
    crossings,
    layered,
    ordered,
    ranks,
    row_places,
    without_cycles,
)

Ends = tuple[str, str]


def pairs(text: str) -> list[Ends]:
    """Edges of a text like "ab bc"."""
    return [(word[0], word[1]) for word in text.split()]


def nodes(text: str) -> dict[str, Extent]:
    return {name: Extent(10, 20) for name in text}


@pytest.mark.parametrize(
    ("edges", "back"),
    [
        ("ab bc ac", ""),
        ("ab ba", "ba"),
        ("ab bc cb cd", "cb"),
        ("ab bc ca", "ca"),
        ("ab bd ac cd da", "da"),
        ("bc cb ab", "cb"),
    ],
)
def test_edges_that_close_a_cycle(edges: str, back: str) -> None:
    left = without_cycles(nodes("abcd"), pairs(edges))
    assert left == [ends for ends in pairs(edges) if ends not in pairs(back)]


def test_a_long_chain_is_no_deep_recursion() -> None:
    names = [str(i) for i in range(5000)]
    edges = list(itertools.pairwise(names))
    assert without_cycles(dict.fromkeys(names), edges) == edges
    assert ranks(dict.fromkeys(names), edges)["4999"] == 4999


def test_ranks() -> None:
    """The longest way; e, that nothing leads to, is right before what it leads to."""
    assert ranks(nodes("abcdef"), pairs("ab bc ac cd ed")) == {
        "a": 0, "b": 1, "c": 2, "d": 3, "e": 2, "f": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("edges", "count"), [("ac bd", 0), ("ad bc", 1), ("ac ad bc bd", 1), ("ae bd bc ad", 3)]
)
def test_crossings(edges: str, count: int) -> None:
    after: dict[str, list[str]] = {"a": [], "b": []}
    for source, target in pairs(edges):
        after[source].append(target)
    assert crossings([["a", "b"], ["c", "d", "e"]], after) == count


def test_the_order_has_few_crossings() -> None:
    rows = [list("abc"), list("def"), list("ghi")]
    edges = pairs("af be cd fg eh di")
    after = {s: [t for x, t in edges if x == s] for row in rows for s in row}
    assert crossings(rows, after) == 6
    assert crossings(ordered(rows, edges), after) == 0


def test_boxes_come_apart() -> None:
    """Where there is room they are where they wish to be; else they share what lacks."""
    assert apart([0, 50], [10, 10], 5) == [0, 50]
    assert apart([20, 20], [10, 20], 5) == [10, 30]
    assert apart([50, 0], [10, 10], 5) == [17.5, 32.5]
    assert apart([20, 20], [10, 20], 5, [3, 1]) == [15, 35]
    assert apart([0, 0, 100], [10, 10, 10], 0) == [-5, 5, 100]
    assert apart([], [], 5) == []


def test_a_chain_is_a_straight_line() -> None:
    place = row_places([["a"], ["b"], ["c"]], pairs("ab bc"), {"a": 10, "b": 30, "c": 20}, 5)
    assert place["a"] == pytest.approx(place["b"])
    assert place["b"] == pytest.approx(place["c"])
    assert min(place.values()) == pytest.approx(15)  # half of the widest


def test_a_node_is_between_those_it_leads_to() -> None:
    place = row_places([["a"], ["b", "c"]], pairs("ab ac"), dict.fromkeys("abc", 10.0), 6)
    assert place["c"] - place["b"] == pytest.approx(16)
    assert place["a"] == pytest.approx((place["b"] + place["c"]) / 2)


def test_a_node_is_between_those_before_and_after() -> None:
    """b hangs between a, which e and f hold on the left, and c, which g and h hold on the right."""
    rows = [list("aef"), list("b"), list("ghc")]
    place = row_places(rows, pairs("ab bc"), dict.fromkeys("aefbghc", 10.0), 6)
    assert place["b"] == pytest.approx((place["a"] + place["c"]) / 2, abs=0.1)


def test_ends_give_way_to_what_goes_on() -> None:
    """From a over b to d it is nearly straight; c, that leads nowhere, is beside."""
    place = row_places(
        [["a"], ["b", "c"], ["d"]], pairs("ab ac bd"), dict.fromkeys("abcd", 10.0), 6
    )
    assert abs(place["a"] - place["b"]) < 4 < 12 < place["c"] - place["a"]


def test_layered() -> None:
    """a to d goes around the chain over b and c, through a point in the rank of each."""
    layout = layered(nodes("abcd"), pairs("ab bc cd ad"), rank_gap=7, gap=4)
    assert [layout.nodes[name][0] for name in "abcd"] == [5, 22, 39, 56]
    assert layout.size.along == 61
    way = layout.edges["a", "d"]
    assert [along for along, _ in way] == [5, 22, 39, 56]
    for name, (_, across) in zip("bc", way[1:3], strict=True):
        assert abs(across - layout.nodes[name][1]) >= 10 + 4 / 4
        assert 0 <= across <= layout.size.across
    assert layout.edges["a", "b"] == [layout.nodes["a"], layout.nodes["b"]]


def test_there_and_back() -> None:
    layout = layered(nodes("abc"), pairs("ab ba bc"), rank_gap=7, gap=4)
    assert layout.edges["b", "a"] == layout.edges["a", "b"][::-1]


def test_nothing_overlaps() -> None:
    """A ladder with rungs: boxes of a rank keep their distance."""
    edges = [(f"{i}{side}", f"{i + 1}{to}") for i in range(9) for side in "xyz" for to in "xyz"]
    boxes = {name: Extent(10, 5.0 * (1 + int(name[0]) % 3)) for ends in edges for name in ends}
    layout = layered(boxes, edges, rank_gap=7, gap=4)
    for one, other in itertools.combinations(boxes, 2):
        (a1, c1), (a2, c2) = layout.nodes[one], layout.nodes[other]
        if abs(a1 - a2) < 10:
            room = abs(c1 - c2) - (boxes[one].across + boxes[other].across) / 2
            assert room >= 4 - 1e-6


def test_nothing_to_lay_out() -> None:
    layout = layered({}, [], rank_gap=7, gap=4)
    assert (layout.nodes, layout.edges, layout.size) == ({}, {}, (0, 0))
