from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import pytest

from moka.draw import net_picture
from moka.draw.net_drawing import Drawing, net_drawing
from moka.draw.net_picture import draw, figure, smooth
from moka.errors import UsageError
from moka.schema import caffe_pb2, parse_text

NET = """
name: "small"
layer { name: "i" type: "Input" top: "x" }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 20 } }
layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
layer { name: "e" type: "Eltwise" bottom: "y" bottom: "x" top: "$z_0$" }
"""


def drawing(rankdir: str = "LR", text: str = NET) -> Drawing:
    return net_drawing(parse_text(text, caffe_pb2.NetParameter), rankdir)


def texts(made: Any) -> dict[str, tuple[float, float]]:
    """What is written in a picture, and where, in points from the lower left."""
    return {t.get_text(): t.get_position() for t in made.axes[0].texts}


def test_the_form_of_the_file() -> None:
    assert draw(drawing(), "png").startswith(b"\x89PNG")
    assert b"<svg" in draw(drawing(), "SVG")
    assert draw(drawing(), "pdf").startswith(b"%PDF")
    for form in ("dot", "gv", "raw"):
        assert draw(drawing(), form).startswith(b'digraph "small" {')


def test_everything_is_written() -> None:
    said = texts(figure(drawing()))
    window = "kernel size: 1\nstride: 1\npad: 0"
    layers = ["i\n(Input)", f"c\n(Convolution)\n{window}", "r\n(ReLU)", "e\n(Eltwise)"]
    assert said.keys() == {*layers, "x", "y", "$z_0$", "20"}


@pytest.mark.parametrize(
    ("rankdir", "axis", "sign"), [("LR", 0, 1), ("RL", 0, -1), ("TB", 1, -1), ("BT", 1, 1)]
)
def test_directions(rankdir: str, axis: int, sign: int) -> None:
    at = texts(figure(drawing(rankdir)))
    first = "i\n(Input)" if axis == 0 else "i (Input)"
    way = [at[name][axis] * sign for name in (first, "x", "y", "$z_0$")]
    assert way == sorted(way)
    assert len(set(way)) == 4


def test_all_of_it_is_on_the_picture() -> None:
    for rankdir in ("LR", "TB"):
        made = figure(drawing(rankdir))
        width, height = made.get_size_inches() * 72
        axes: Any = made.axes[0]
        for patch in axes.patches:
            box = patch.get_path().get_extents(patch.get_transform() - axes.transData)
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= width
            assert box.y1 <= height


def test_colours_are_seen() -> None:
    image = cv2.imdecode(np.frombuffer(draw(drawing(), "png"), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    colours = {tuple(c) for c in image.reshape(-1, 3).tolist()}
    for rgb in ("FF5050", "90EE90", "6495ED", "E0E0E0", "FFFFFF"):
        assert tuple(bytes.fromhex(rgb))[::-1] in colours


def test_ways_there_and_back_lie_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """At both of their ends; in (along, across)."""
    ways: list[Any] = []

    def record(way: Any) -> Any:
        ways.append(way)
        return smooth(way)

    monkeypatch.setattr(net_picture, "smooth", record)
    figure(drawing("TB"))
    there, back = ways[3], ways[4]  # from y to r, and from r to y
    for one, other in ((there[0], back[-1]), (there[-1], back[0])):
        assert one[0] == pytest.approx(other[0])
        assert abs(one[1] - other[1]) > 4


def test_a_large_net_keeps_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_picture, "MOST_PIXELS", 1e4)
    image = cv2.imdecode(np.frombuffer(draw(drawing(), "png"), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert 0.9e4 < image.shape[0] * image.shape[1] <= 1.1e4


def test_the_same_net_is_the_same_file() -> None:
    assert draw(drawing(), "svg") == draw(drawing(), "svg")


def test_a_net_of_nothing() -> None:
    assert draw(drawing(text=""), "png").startswith(b"\x89PNG")


def test_smooth() -> None:
    assert smooth([(0, 0), (4, 8)]) == [(0, 0), (2, 0), (2, 8), (4, 8)]
    bent = [(0, 0), (1, 0), (1, 1), (2, 4), (3, 7), (3, 16), (4, 16)]  # slopes 2 and 6, so 3
    assert smooth([(0, 0), (2, 4), (4, 16)]) == bent
    back = [(0, 0), (1, 0), (1, 4), (2, 4), (3, 4), (3, 0), (4, 0)]
    assert smooth([(0, 0), (2, 4), (4, 0)]) == back


def test_another_form() -> None:
    with pytest.raises(UsageError, match=r"a net is drawn into .*\.png.*, not '\.xyz'") as caught:
        draw(drawing(), "xyz")
    assert str(caught.value).count(".raw,") == 1


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"drawing needs matplotlib.*Or draw into a \.dot file"):
        draw(drawing(), "png")
    assert draw(drawing(), "dot")
