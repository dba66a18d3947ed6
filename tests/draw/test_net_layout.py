from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moka.draw.net_drawing import Drawing, net_drawing
from moka.draw.net_layout import Placed, lay_out, smooth
from moka.schema import caffe_pb2, parse_text

NET = """
layer { name: "i" type: "Input" top: "x" }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 20 } }
layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
layer { name: "e" type: "Eltwise" bottom: "y" bottom: "x" top: "z" }
"""
SIZE = 60.0, 24.0
UseDot = Callable[[str], None]


def drawing(rankdir: str = "LR") -> Drawing:
    return net_drawing(parse_text(NET, caffe_pb2.NetParameter), rankdir)


def placed(rankdir: str = "LR") -> Placed:
    made = drawing(rankdir)
    labels = [(20.0, 9.0) if edge.label else (0.0, 0.0) for edge in made.edges]
    return lay_out(made, dict.fromkeys(made.nodes, SIZE), labels)


@pytest.fixture
def use_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UseDot:
    """use_dot(script): that shell script is the only program named dot; "" is none."""

    def use(script: str) -> None:
        if script:
            program = tmp_path / "dot"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", os.fspath(tmp_path))

    return use


@pytest.fixture(params=["dot", "layered"])
def _both(request: pytest.FixtureRequest, use_dot: UseDot) -> None:
    if request.param == "layered":
        use_dot("")
    elif shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize(
    ("rankdir", "axis", "sign"), [("LR", 0, 1), ("RL", 0, -1), ("TB", 1, -1), ("BT", 1, 1)]
)
def test_directions(rankdir: str, axis: int, sign: int) -> None:
    at = placed(rankdir).nodes
    keys = ("i_Input", "x_blob", "c_Convolution", "y_blob", "e_Eltwise", "z_blob")
    way = [at[key][axis] * sign for key in keys]
    assert way == sorted(way)
    assert len(set(way)) == len(way)


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("rankdir", ["LR", "TB"])
def test_all_of_it_lies_within_the_size_and_apart(rankdir: str) -> None:
    made = placed(rankdir)
    (w, h), (width, height) = SIZE, made.size
    for x, y in made.nodes.values():
        assert w / 2 - 1 <= x <= width - w / 2 + 1
        assert h / 2 - 1 <= y <= height - h / 2 + 1
    for (x1, y1), (x2, y2) in itertools.combinations(made.nodes.values(), 2):
        assert abs(x1 - x2) >= w or abs(y1 - y2) >= h


@pytest.mark.usefixtures("_both")
def test_edges_go_from_border_to_border() -> None:
    made = placed("TB")
    for edge, way, label in zip(drawing("TB").edges, made.ways, made.labels, strict=True):
        assert len(way) % 3 == 1
        for end, key in ((way[0], edge.source), (way[-1], edge.target)):
            x, y = made.nodes[key]
            assert abs(end[0] - x) <= SIZE[0] / 2 + 1
            assert abs(end[1] - y) == pytest.approx(SIZE[1] / 2, abs=1) or (
                abs(end[0] - x) == pytest.approx(SIZE[0] / 2, abs=1)
            )
        assert (label is not None) == bool(edge.label)


def test_what_dot_says_is_where_things_lie(use_dot: UseDot) -> None:
    """Inches, from the lower left; two edges between the same nodes keep their order."""
    lines = ["graph 1 10 2"]
    lines += [f"node n{k} {k + 1} 0.5 0.8 0.3 x solid box black lightgrey" for k in range(7)]
    edges = ["0 1", "1 2", "2 3", "3 4", "4 3", "3 5", "1 5", "5 6"]
    for k, ends in enumerate(edges):
        source, target = ends.split()
        label = "table 3 4 " if k == 2 else ""
        lines.append(f"edge n{source} n{target} 4 {k} 0 {k} .1 {k} .2 {k} .3 {label}solid black")
    use_dot("/bin/cat <<'END'\n" + "\n".join([*lines, "stop"]) + "\nEND")
    made = placed()
    assert made.size == (720, 144)
    assert [x for x, _ in made.nodes.values()] == [72.0 * (k + 1) for k in range(7)]
    assert [way[0] for way in made.ways] == [(72.0 * k, 0) for k in range(8)]
    assert made.labels == [None, None, (216, 288), None, None, None, None, None]


@pytest.mark.parametrize(
    "script", ["exit 1", "echo nonsense", "echo graph 1 2", "echo node n99 1 1"]
)
def test_a_dot_that_fails_is_no_matter(script: str, use_dot: UseDot) -> None:
    use_dot("")
    without = placed()
    use_dot(script)
    assert placed() == without


def test_ways_there_and_back_lie_beside_each_other(use_dot: UseDot) -> None:
    """At both of their ends."""
    use_dot("")
    ends = [(edge.source, edge.target) for edge in drawing("TB").edges]
    ways = placed("TB").ways
    there, back = (ways[ends.index(e)] for e in (("y_blob", "r_ReLU"), ("r_ReLU", "y_blob")))
    for one, other in ((there[0], back[-1]), (there[-1], back[0])):
        assert one[1] == pytest.approx(other[1])
        assert abs(one[0] - other[0]) > 4


def test_moved() -> None:
    made = Placed({"a": (1, 2)}, [[(3, 4)]], [(5, 6), None], (7, 8))
    assert made.moved(10, 20) == Placed({"a": (11, 22)}, [[(13, 24)]], [(15, 26), None], (7, 8))


def test_smooth() -> None:
    assert smooth([(0, 0), (4, 8)]) == [(0, 0), (2, 0), (2, 8), (4, 8)]
    bent = [(0, 0), (1, 0), (1, 1), (2, 4), (3, 7), (3, 16), (4, 16)]  # slopes 2 and 6, so 3
    assert smooth([(0, 0), (2, 4), (4, 16)]) == bent
    back = [(0, 0), (1, 0), (1, 4), (2, 4), (3, 4), (3, 0), (4, 0)]
    assert smooth([(0, 0), (2, 4), (4, 0)]) == back
