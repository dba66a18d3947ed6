from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from moka.draw import net_picture
from moka.draw.net_drawing import Drawing, net_drawing
from moka.draw.net_picture import figure, net_picture_bytes
from moka.errors import NetError, UsageError
from moka.schema import caffe_pb2, parse_text, read_text

MODELS = Path(__file__).parents[2] / "models"
NET = """
name: "small"
layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
layer { name: "e" type: "Eltwise" bottom: "y" bottom: "x" top: "$z_0$" }
"""


@pytest.fixture(autouse=True)
def _no_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are the same everywhere."""
    monkeypatch.setenv("PATH", str(tmp_path))


def net(text: str = NET) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def drawing(rankdir: str = "LR", text: str = NET) -> Drawing:
    return net_drawing(net(text), rankdir)


def chain(count: int) -> str:
    """A net of convolutions, each with a ReLU in place."""
    layers = ['layer { name: "i" type: "Input" top: "b0" input_param { shape { dim: 1 dim: 3 } } }']
    for k in range(count):
        layers.append(
            f'layer {{ name: "fc{k}" type: "InnerProduct" bottom: "b{k}" top: "b{k + 1}"'
            f" inner_product_param {{ num_output: {k + 7} }} }}"
            f' layer {{ name: "relu{k}" type: "ReLU" bottom: "b{k + 1}" top: "b{k + 1}" }}'
        )
    return "\n".join(layers)


def texts(svg: bytes) -> dict[str, tuple[float, float]]:
    """What is written in an SVG picture, and where, in points from the upper left."""
    found = {}
    for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        place = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
        at = place.groups() if place else (element.get("x", "0"), element.get("y", "0"))
        found["".join(element.itertext())] = (float(at[0]), float(at[1]))
    return found


def size(svg: bytes) -> tuple[float, float]:
    """Width and height of an SVG picture in points."""
    root = ElementTree.fromstring(svg)
    return float(root.get("width", "").rstrip("pt")), float(root.get("height", "").rstrip("pt"))


def pixels(png: bytes) -> Any:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_the_form_of_the_file() -> None:
    assert net_picture_bytes(net(), "png").startswith(b"\x89PNG")
    assert b"<svg" in net_picture_bytes(net(), "SVG")
    assert net_picture_bytes(net(), "pdf").startswith(b"%PDF")
    for form in ("dot", "gv", "raw"):
        assert net_picture_bytes(net(), form).startswith(b'digraph "small" {')


def test_an_svg_picture_holds_text() -> None:
    svg = net_picture_bytes(net(), "svg")
    assert texts(svg).keys() == {
        *("i", "(Input)", "x", "2x3x4x4", "c", "(Convolution)", "kernel size: 1", "stride: 1"),
        *("pad: 0", "3", "y", "r (ReLU)", "e", "(Eltwise)", "$z_0$"),
    }
    assert ElementTree.fromstring(svg).findtext("{http://www.w3.org/2000/svg}title") == "small"


@pytest.mark.parametrize(
    ("rankdir", "axis", "sign"), [("LR", 0, 1), ("RL", 0, -1), ("TB", 1, 1), ("BT", 1, -1)]
)
def test_directions(rankdir: str, axis: int, sign: int) -> None:
    at = texts(net_picture_bytes(net(), "svg", rankdir))
    words = ("i", "x", "y", "$z_0$") if axis == 0 else (
        "i (Input)", "x 2x3x4x4", "y 2x3x4x4", "$z_0$ 2x3x4x4")  # fmt: skip
    way = [at[word][axis] * sign for word in words]
    assert way == sorted(way)


def test_all_of_it_is_on_the_picture() -> None:
    for text, rankdir in ((NET, "LR"), (NET, "TB"), (chain(60), "TB"), (chain(60), "LR")):
        made = figure(drawing(rankdir, text))
        width, height = made.get_size_inches() * 72
        axes: Any = made.axes[0]
        for patch in axes.patches:
            box = patch.get_path().get_extents(patch.get_transform() - axes.transData)
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= width
            assert box.y1 <= height


def test_nodes_do_not_overlap() -> None:
    axes: Any = figure(drawing("TB", chain(60))).axes[0]
    boxes = [p.get_extents() for p in axes.patches if type(p).__name__ == "Polygon"]
    assert len(boxes) > 120
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_colors_are_seen() -> None:
    image = pixels(net_picture_bytes(net(), "png"))
    colors = {tuple(c) for c in image.reshape(-1, 3).tolist()}
    for rgb in ("FF5050", "90EE90", "6495ED", "E0E0E0", "FFFFFF"):
        assert tuple(bytes.fromhex(rgb))[::-1] in colors


@pytest.mark.parametrize(("count", "words"), [(14, "fc0"), (15, "fc0 (InnerProduct)")])
def test_in_a_net_of_many_layers_the_data_flows_down(count: int, words: str) -> None:
    """That is 29 or 31 layers; unless the user says otherwise."""
    assert words in texts(net_picture_bytes(net(chain(count)), "svg"))
    assert "fc0" in texts(net_picture_bytes(net(chain(count)), "svg", "LR"))


def test_a_long_net_is_drawn_in_columns_or_rows() -> None:
    for rankdir in (None, "LR"):
        svg = net_picture_bytes(net(chain(60)), "svg", rankdir)
        width, height = size(svg)
        assert max(width, height) < 4000
        assert 0.9 < (height / width if rankdir is None else width / height) < 2.2
        said = texts(svg)
        assert sum(bool(re.match(r"relu\d+ \(ReLU\)$", word)) for word in said) == 60


@pytest.mark.slow
def test_resnet_is_legible() -> None:
    resnet = read_text(MODELS / "resnet152" / "deploy.prototxt", caffe_pb2.NetParameter)
    svg = net_picture_bytes(resnet, "svg")
    width, height = size(svg)
    assert width < height < 2.5 * width
    assert width < 4000
    said = texts(svg)
    assert "res5c 1x2048x7x7" in said
    assert "res5c_relu (ReLU)" in said
    (x, y), (_, below) = said["data (Input)"], said["conv1 1x64x112x112"]
    assert y < below
    assert said["prob 1x1000"][0] > x  # in the last column


def test_a_net_of_branches_is_drawn_in_columns_too() -> None:
    googlenet = read_text(MODELS / "bvlc_googlenet" / "train_val.prototxt", caffe_pb2.NetParameter)
    svg = net_picture_bytes(googlenet, "svg")
    width, height = size(svg)
    assert 0.9 < height / width < 1.6
    assert height < 3300
    said = texts(svg)
    assert {"conv1/7x7_s2 (Convolution)", "kernel size: 7 stride: 2 pad: 3"} <= said.keys()
    assert said["loss3/loss3"][0] > said["data (Data)"][0]


def test_a_large_net_keeps_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_picture, "MOST_PIXELS", 1e4)
    image = pixels(net_picture_bytes(net(), "png"))
    assert 0.9e4 < image.shape[0] * image.shape[1] <= 1.1e4


def test_the_same_net_is_the_same_file() -> None:
    assert net_picture_bytes(net(), "svg") == net_picture_bytes(net(), "svg")


def test_a_net_of_nothing() -> None:
    assert net_picture_bytes(net(""), "png").startswith(b"\x89PNG")


def test_older_nets_are_drawn_too() -> None:
    old = net(
        'input: "x" input_dim: [1, 1, 1, 1] layers { name: "r" type: RELU bottom: "x" top: "y" }'
    )
    assert {"x", "1x1x1x1", "r"} <= texts(net_picture_bytes(old, "svg")).keys()


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match=r"a net is drawn into .*\.png.*, not '\.xyz'") as caught:
        net_picture_bytes(net(), "xyz")
    assert str(caught.value).count(".raw,") == 1
    with pytest.raises(NetError, match="rankdir is one of LR, RL, TB, BT, got 'XY'"):
        net_picture_bytes(net(), "png", "XY")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pictures need matplotlib.*Or draw into a \.dot file"):
        net_picture_bytes(net(), "png")
    assert net_picture_bytes(net(), "dot")
