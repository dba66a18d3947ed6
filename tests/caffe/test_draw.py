from __future__ import annotations

import sys
from pathlib import Path

import pytest

import caffe
import caffe.draw
from caffe.proto import caffe_pb2
from moka.errors import UsageError
from moka.schema import parse_text, read_text

ROOT = Path(__file__).parents[2]
NET = """
name: "small"
layer { name: "i" type: "Input" top: "x" }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 2 }
  convolution_param { num_output: 20 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" include { phase: TEST } }
"""


@pytest.fixture
def net() -> caffe_pb2.NetParameter:
    return parse_text(NET, caffe_pb2.NetParameter)


def test_labels(net: caffe_pb2.NetParameter) -> None:
    _, c, r, p = net.layer
    assert caffe.draw.get_layer_label(c, "LR") == (
        r'"c\n(Convolution)\nkernel size: 3\nstride: 1\npad: 0"'
    )
    wide = '"c (Convolution) kernel size: 3 stride: 1 pad: 0 lr mult: 2.0, 1.0"'
    assert caffe.draw.get_layer_label(c, "TB", display_lrm=True) == wide
    assert caffe.draw.get_layer_label(r, "LR") == r'"r\n(ReLU)"'
    assert caffe.draw.get_layer_lr_mult(c) == (2, 1)
    assert caffe.draw.get_edge_label(c) == "20"
    assert caffe.draw.get_edge_label(p) == '""'


def test_constants() -> None:
    of_bvlc = {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
    assert caffe.draw.get_pooling_types_dict().items() >= of_bvlc.items()
    assert [
        caffe.draw.choose_color_by_layertype(name)
        for name in ("Convolution", "Deconvolution", "Pooling", "InnerProduct", "Data")
    ] == ["#FF5050", "#FF5050", "#FF9900", "#CC33FF", "#6495ED"]
    styles = (
        caffe.draw.LAYER_STYLE_DEFAULT, caffe.draw.NEURON_LAYER_STYLE, caffe.draw.BLOB_STYLE,
    )  # fmt: skip
    assert [(s["shape"], s["fillcolor"], s["style"]) for s in styles] == [
        ("record", "#6495ED", "filled"),
        ("record", "#90EE90", "filled"),
        ("octagon", "#E0E0E0", "filled"),
    ]


def test_a_graph_of_pydot(net: caffe_pb2.NetParameter) -> None:
    pydot = pytest.importorskip("pydot")
    graph = caffe.draw.get_pydot_graph(net, "TB", phase=caffe.TRAIN)
    assert isinstance(graph, pydot.Dot)
    assert (graph.get_name(), graph.get_rankdir()) == ('"small"', "TB")
    assert [node.get_name() for node in graph.get_nodes()] == [
        '"i_Input"', '"x_blob"', '"c_Convolution"', '"c_blob"', '"r_ReLU"',
    ]  # fmt: skip
    conv = graph.get_node('"c_Convolution"')[0]
    assert conv.get_label() == '"c (Convolution) kernel size: 3 stride: 1 pad: 0"'
    assert conv.get_fillcolor() == '"#FF5050"'
    ends = [(e.get_source(), e.get_destination(), e.get_label()) for e in graph.get_edges()]
    assert ends[2] == ('"c_Convolution"', '"c_blob"', '"20"')
    assert len(ends) == 5
    plain = caffe.draw.get_pydot_graph(net, "TB", label_edges=False)
    assert {edge.get_label() for edge in plain.get_edges()} == {'""'}


def test_without_pydot(net: caffe_pb2.NetParameter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(UsageError, match=r"needs pydot.*pip install pydot"):
        caffe.draw.get_pydot_graph(net, "LR")


def test_draw_net(net: caffe_pb2.NetParameter) -> None:
    assert caffe.draw.draw_net(net, "LR").startswith(b"\x89PNG")
    assert caffe.draw.draw_net(net, "LR", "raw") == caffe.draw.draw_net(net, "LR", "dot")
    train = caffe.draw.draw_net(net, "LR", "dot", phase=caffe.TRAIN, display_lrm=True)
    assert b"Pooling" not in train
    assert b"lr mult: 2.0, 1.0" in train


def test_draw_net_to_file(net: caffe_pb2.NetParameter) -> None:
    caffe.draw.draw_net_to_file(net, "x.png")
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")
    caffe.draw.draw_net_to_file(net, "x.raw", "BT", phase=caffe.TRAIN, display_lrm=True)
    text = Path("x.raw").read_text()
    assert "rankdir=BT" in text
    assert "lr mult" in text
    assert "Pooling" not in text


def test_the_direction_is_chosen_unless_it_is_given() -> None:
    layers = [f'layer {{ name: "a{k}" type: "TanH" bottom: "b{k}" top: "b{k + 1}" }}'
              for k in range(40)]  # fmt: skip
    large = parse_text("\n".join(layers), caffe_pb2.NetParameter)
    caffe.draw.draw_net_to_file(large, "x.dot")
    assert "rankdir=TB" in Path("x.dot").read_text()
    caffe.draw.draw_net_to_file(large, "x.dot", "LR")
    assert "rankdir=LR" in Path("x.dot").read_text()


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/**/*.prototxt")), ids=lambda f: f.name)
def test_every_net_of_the_examples(file: Path) -> None:
    if "solver" not in file.name:
        net = read_text(file, caffe_pb2.NetParameter)
        assert caffe.draw.draw_net(net, "LR").startswith(b"\x89PNG")
