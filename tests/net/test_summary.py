from __future__ import annotations

from typing import TYPE_CHECKING

from moka.net.summary import as_html, described_rows, rows
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
name: "small"
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 40 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 40 } }
layer { name: "more <b>" type: "TanH" bottom: "y" top: "z" }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
layer { name: "out" type: "Silence" bottom: "z" }
"""
TABLE = """
small (TRAIN) on cpu: 160 parameters, 0.0 MB
  layer     type           tops           parameters            count
  in        Input          x 2x3, t 2x40
  ip        InnerProduct   y 2x40         weight 40x3, bias 40    160
  more <b>  TanH           z 2x40
  loss      EuclideanLoss  loss scalar
  out       Silence
"""


def test_text(make_net: NetMaker) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    assert net.summary() == repr(net) == TABLE.strip()


def test_shapes_are_those_of_now(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    net.blobs["x"].reshape(7, 3)
    net.blobs["t"].reshape(7, 40)
    net.reshape()
    assert [[str(top) for top in row.tops] for row in rows(net)][:2] == [
        ["x 7x3", "t 7x40"],
        ["y 7x40"],
    ]


def test_all_that_a_row_knows(make_net: NetMaker) -> None:
    """Blobs under the names in the text, though splits give them others."""
    net = make_net(
        TEXT.replace('name: "ip"', 'name: "ip" param { lr_mult: 2 decay_mult: 0 } loss_weight: 0.5')
    )
    assert [row.full_texts() for row in rows(net)][1:4:2] == [
        (
            "ip",
            "InnerProduct",
            "x",
            "y 2x40 * 0.5",
            "weight 40x3 lr 2 decay 0; bias 40",
            "160",
        ),
        ("loss", "EuclideanLoss", "y, t", "loss scalar", "", ""),
    ]


def test_rows_of_a_description() -> None:
    described = parse_text(TEXT, caffe_pb2.NetParameter)
    described.layer[1].include.add(phase=caffe_pb2.TRAIN)
    described.layer[1].param.add(name="w")
    found = described_rows(described, {"x": (2, 3), "y": ("?", 40)})
    assert found[0].full_texts() == ("in", "Input", "", "x 2x3, t", "", "")
    assert found[1].full_texts() == (
        "ip",
        "InnerProduct (TRAIN)",
        "x",
        "y ?x40",
        "w lr 1 decay 1",
        "",
    )


def test_html(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    html = net._repr_html_()
    assert html == as_html(net)
    assert html.count("<tr>") == 1 + 5
    assert "<td>weight 40x3, bias 40</td><td>160</td>" in html
    assert "<td>more &lt;b&gt;</td>" in html


def test_a_net_without_layers(make_net: NetMaker) -> None:
    lines = make_net("").summary().splitlines()
    assert lines == ["Net (TEST) on cpu: 0 parameters, 0.0 MB",
                     "  layer  type  tops  parameters  count"]  # fmt: skip
