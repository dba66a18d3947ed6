from __future__ import annotations

from pathlib import Path

import pytest

from moka.errors import MokaError, SchemaError
from moka.net import build_net, read_net
from moka.schema import caffe_pb2, parse_text

SMALL = """
name: "small"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "y" top: "prob" }
layer { name: "out" type: "Silence" bottom: "prob" include { stage: "deploy" } }
layer { name: "drop" type: "Dropout" bottom: "y" top: "z" include { phase: TRAIN min_level: 1 } }
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer {", "Failed to parse NetParameter file: .*net.prototxt:1:"),
        ('layer { name: "a" type: "Relu" }', r'layer "a" \(Relu\): Unknown layer type.*"ReLU"'),
        (SMALL.replace("num_output: 4", "num_output: 0"), r'layer "ip" .*num_output must be > 0'),
        (SMALL.replace('"xavier"', '"xaver"'), r'layer "ip" .*unknown filler "xaver".*"xavier"'),
        (SMALL.replace('top: "prob"', 'top: "x"'), r'layer "prob" .*produced by multiple'),
    ],
)
def test_faults_name_file_and_layer(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "net.prototxt"
    file.write_text(text)
    with pytest.raises(MokaError, match=message) as caught:
        build_net(file)
    assert "net.prototxt" in str(caught.value)


def test_a_file_that_is_missing() -> None:
    with pytest.raises(SchemaError, match=r"File not found: no/such\.prototxt"):
        build_net("no/such.prototxt")


def test_a_message_is_read_too() -> None:
    message = parse_text(SMALL, caffe_pb2.NetParameter)
    assert read_net(message) == (message, "(given message)")
    assert build_net(message).name == "small"


@pytest.mark.parametrize(
    ("phase", "level", "stages", "wanted"),
    [
        (caffe_pb2.TEST, 0, (), ["in", "ip", "prob"]),
        (caffe_pb2.TEST, 0, ("deploy",), ["in", "ip", "prob", "out"]),
        (caffe_pb2.TRAIN, 0, (), ["in", "ip", "prob"]),
        (caffe_pb2.TRAIN, 1, (), ["in", "ip", "prob", "drop"]),
    ],
)
def test_rules_choose_the_layers(
    phase: caffe_pb2.Phase, level: int, stages: tuple[str, ...], wanted: list[str]
) -> None:
    net = build_net(parse_text(SMALL, caffe_pb2.NetParameter), phase, level=level, stages=stages)
    assert [n for n, layer in net.named_layers() if not layer.entry.is_plumbing] == wanted
