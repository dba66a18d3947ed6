from __future__ import annotations

import pytest

from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import upgrade_net


def net(text: str) -> caffe_pb2.NetParameter:
    return upgrade_net(parse_text(text, caffe_pb2.NetParameter))


STACKED = """layer { name: "it" type: "Lstm" bottom: "x" bottom: "clip" top: "y"
  exclude { phase: TEST } param { lr_mult: 2 }
  recurrent_param { engine: CUDNN num_output: 7 num_layers: 3 dropout_seed: 1 %s } }"""


def test_layers_are_written_out() -> None:
    made = net(STACKED % "dropout_ratio: 0.3").layer
    assert [(n.name, n.type, list(n.bottom), list(n.top)) for n in made] == [
        ("it", "LSTM", ["x", "clip"], ["it/1"]),
        ("it/1/drop", "Dropout", ["it/1"], ["it/1/drop"]),
        ("it/2", "LSTM", ["it/1/drop", "clip"], ["it/2"]),
        ("it/2/drop", "Dropout", ["it/2"], ["it/2/drop"]),
        ("it/3", "LSTM", ["it/2/drop", "clip"], ["y"]),
    ]
    assert [n.recurrent_param.num_output for n in made[::2]] == [7, 7, 7]
    assert [n.param[0].lr_mult for n in made[::2]] == [2, 2, 2]
    assert all(n.exclude[0].phase == caffe_pb2.TEST for n in made)
    assert not any(n.recurrent_param.HasField("num_layers") for n in made)
    assert round(made[1].dropout_param.dropout_ratio, 6) == 0.3


def test_without_dropout() -> None:
    made = net(STACKED % "").layer
    assert [n.type for n in made] == ["LSTM"] * 3
    assert [list(n.bottom) for n in made] == [["x", "clip"], ["it/1", "clip"], ["it/2", "clip"]]


def test_one_layer_stays() -> None:
    made = net((STACKED % "").replace("num_layers: 3", "num_layers: 1")).layer
    assert [(n.name, list(n.top)) for n in made] == [("it", ["y"])]


@pytest.mark.parametrize(
    "text",
    [
        'top: "y" recurrent_param { num_layers: 2 }',
        'bottom: "x" recurrent_param { num_layers: 2 }',
        'bottom: "x" top: "y" recurrent_param { num_layers: 4000000000 }',
    ],
)
def test_layers_that_cannot_be_stacked(text: str) -> None:
    with pytest.raises(SchemaError, match=r'layer "it" .*need a bottom and a top, and are 1000'):
        net(f'layer {{ name: "it" type: "LSTM" {text} }}')
