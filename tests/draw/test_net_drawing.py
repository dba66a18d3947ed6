from __future__ import annotations

import pytest

from moka.draw.net_drawing import (
    BLOB,
    IN_PLACE,
    OTHER,
    DrawnNode,
    Edge,
    dot_text,
    edge_label,
    in_phase,
    layer_lines,
    lr_mults,
    net_drawing,
)
from moka.errors import NetError
from moka.schema import caffe_pb2, parse_text

NET = """
name: "small"
layer { name: "d" type: "Data" top: "data" top: "label" data_param { batch_size: 64 }
  include { phase: TRAIN } }
layer { name: "d" type: "Data" top: "data" top: "label" data_param { batch_size: 10 }
  include { phase: TEST } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 20 kernel_size: 5 stride: 2 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p"
  pooling_param { pool: AVE kernel_size: 3 pad: 1 } }
layer { name: "a" type: "Accuracy" bottom: "p" bottom: "label" top: "a" exclude { phase: TRAIN } }
"""


def net(text: str = NET) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def layer(text: str) -> caffe_pb2.LayerParameter:
    return parse_text(f'name: "x" {text}', caffe_pb2.LayerParameter)


def test_nodes_and_edges() -> None:
    drawing = net_drawing(net(), phase=caffe_pb2.TRAIN)
    assert (drawing.name, drawing.rankdir) == ("small", "LR")
    window = ("kernel size: 5", "stride: 2", "pad: 0")
    assert drawing.nodes == {
        "d_Data": DrawnNode(("d", "(Data)"), OTHER),
        "data_blob": DrawnNode(("data",), BLOB, is_blob=True),
        "label_blob": DrawnNode(("label",), BLOB, is_blob=True),
        "c_Convolution": DrawnNode(("c", "(Convolution)", *window), "#FF5050"),
        "c_blob": DrawnNode(("c",), BLOB, is_blob=True),
        "r_ReLU": DrawnNode(("r", "(ReLU)"), IN_PLACE, in_place="c_blob"),
        "p_Pooling": DrawnNode(
            ("p", "(Pooling AVE)", "kernel size: 3", "stride: 1", "pad: 1"), "#FF9900"
        ),
        "p_blob": DrawnNode(("p",), BLOB, is_blob=True),
    }
    assert drawing.edges == (
        Edge("d_Data", "data_blob", "Batch 64"),
        Edge("d_Data", "label_blob", "Batch 64"),
        Edge("data_blob", "c_Convolution"),
        Edge("c_Convolution", "c_blob", "20"),
        Edge("c_blob", "r_ReLU"),
        Edge("r_ReLU", "c_blob"),
        Edge("c_blob", "p_Pooling"),
        Edge("p_Pooling", "p_blob"),
    )


def test_phases() -> None:
    test = net_drawing(net(), phase=caffe_pb2.TEST)
    assert Edge("d_Data", "data_blob", "Batch 10") in test.edges
    assert "a_Accuracy" in test.nodes
    both = net_drawing(net())
    assert "a_Accuracy" in both.nodes
    assert {e.label for e in both.edges} == {"Batch 64", "Batch 10", "", "20"}


@pytest.mark.parametrize(
    ("rules", "train"),
    [
        ("", True),
        ("include { stage: 'x' }", True),
        ("include { phase: TEST } include { phase: TRAIN }", True),
        ("include { phase: TEST }", False),
        ("exclude { phase: TRAIN }", False),
        ("exclude { phase: TRAIN stage: 'x' }", True),
        ("exclude { phase: TEST }", True),
    ],
)
def test_rules(rules: str, train: bool) -> None:
    assert in_phase(layer(rules), caffe_pb2.TRAIN) is train


def test_both_kinds_of_rules() -> None:
    with pytest.raises(NetError, match=r'layer "x" .*either include or exclude'):
        in_phase(layer('type: "ReLU" include {} exclude {}'), caffe_pb2.TRAIN)


def test_labels_of_edges() -> None:
    assert not any(e.label for e in net_drawing(net(), label_edges=False).edges)
    assert edge_label(layer('type: "InnerProduct" inner_product_param { num_output: 7 }')) == "7"
    text = 'type: "Deconvolution" convolution_param { num_output: 8 }'
    assert edge_label(layer(text)) == "8"


@pytest.mark.parametrize("rankdir", ["TB", "BT"])
def test_one_line_where_the_data_flows_down(rankdir: str) -> None:
    lines = net_drawing(net(), rankdir).nodes["c_Convolution"].lines
    assert lines == ("c (Convolution) kernel size: 5 stride: 2 pad: 0",)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            'type: "Convolution" convolution_param { kernel_size: 3 kernel_size: 5 pad: 1 pad: 1 }',
            ("kernel size: 3x5", "stride: 1", "pad: 1"),
        ),
        (
            'type: "Pooling" pooling_param { kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 }',
            ("kernel size: 2x3", "stride: 1x2", "pad: 0"),
        ),
        ('type: "Pooling" pooling_param { global_pooling: true }', ("kernel size: all",)),
        ('type: "Deconvolution"', ("kernel size: 1", "stride: 1", "pad: 0")),
        (
            'type: "Pooling" pooling_param { kernel_size: 3 pad_b: 1 pad_l: 2 }',
            ("kernel size: 3", "stride: 1", "pad: 0+1x2+0"),
        ),
    ],
)
def test_windows(text: str, lines: tuple[str, ...]) -> None:
    assert layer_lines(layer(text))[2:] == lines


@pytest.mark.parametrize(
    ("params", "mults"),
    [
        ("", (1, 1)),
        ("param { lr_mult: 3 }", (3, 1)),
        ("param { lr_mult: 0 } param { lr_mult: 2 }", (0, 2)),
        ("param { decay_mult: 0 }", (1, 1)),
        ("param { lr_mult: 3 } param { lr_mult: 4 } param { lr_mult: 5 }", (3, 4)),
    ],
)
def test_learning_rates(params: str, mults: tuple[float, float]) -> None:
    made = layer(f'type: "InnerProduct" {params}')
    assert lr_mults(made) == mults
    assert layer_lines(made, display_lrm=True)[-1] == f"lr mult: {mults[0]:.1f}, {mults[1]:.1f}"
    assert lr_mults(layer(f'type: "Scale" {params}')) == (0, 0)
    assert layer_lines(layer('type: "Scale"'), display_lrm=True) == ("x", "(Scale)")


def test_older_nets_are_drawn_too() -> None:
    old = net(
        'input: "x" input_dim: [1, 1, 1, 1] layers { name: "r" type: RELU bottom: "x" top: "y" }'
    )
    assert list(net_drawing(old).nodes) == ["input_Input", "x_blob", "r_ReLU", "y_blob"]
    assert old.layers


def test_a_net_without_a_name() -> None:
    assert net_drawing(net("")).name == "Net"


def test_another_direction() -> None:
    with pytest.raises(NetError, match="rankdir is one of LR, RL, TB, BT, got 'XY'"):
        net_drawing(net(), "XY")


def test_dot_text() -> None:
    text = 'name: "n" layer { name: "a|b\\"" type: "ReLU" bottom: "x" top: "y" }'
    assert dot_text(net_drawing(net(text), "RL")).splitlines() == [
        'digraph "n" {',
        "rankdir=RL;",
        r'"a\|b\"_ReLU" [label="a\|b\"\n(ReLU)", shape=record, fillcolor="#6495ED", style=filled];',
        '"x_blob" [label="x", shape=octagon, fillcolor="#E0E0E0", style=filled];',
        '"y_blob" [label="y", shape=octagon, fillcolor="#E0E0E0", style=filled];',
        r'"x_blob" -> "a\|b\"_ReLU" [label=""];',
        r'"a\|b\"_ReLU" -> "y_blob" [label=""];',
        "}",
    ]
