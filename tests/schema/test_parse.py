"""Text is read as protobuf reads it, in any encoding; faults are placed and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from moka.byte_text import to_bytes, to_text
from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text

ROOT = Path(__file__).parents[2]
GBK = "卷积".encode("gbk")


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


@pytest.mark.parametrize("folder", ["models", "examples", "tests"])
def test_files_are_read_as_protobuf_reads_them(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.prototxt"))
    assert files
    for file in files:
        kind: Any = caffe_pb2.SolverParameter if "solver" in file.name else caffe_pb2.NetParameter
        try:
            expected = text_format.Parse(file.read_text(encoding="utf-8"), kind())
        except text_format.ParseError:
            continue
        assert parse_text(file.read_text(encoding="utf-8"), kind) == expected, file


@pytest.mark.parametrize(
    "text",
    [
        'name: "a" "b"\n\'c\'',
        "layer { loss_weight: 1 loss_weight: -.5e1f loss_weight: inf loss_weight: -2 }",
        "layer { loss_weight: [1, 2.5], loss_weight: [] };",
        "layer < phase: TEST > layer: { phase: 0 }",
        "input_dim: 0x10 input_dim: 010 input_dim: -1 input_dim: 0",
        "force_backward: t debug_info: 0",
        "layer [{ name: 'a' }, < name: 'b' >]",
        "layer { include { } }",
        r'layer { python_param { param_str: "{\'a\': 1}\n\x41" } }',
        "layers { blobs { num: 1 data: [1, nan, 3e39] } }",
    ],
)
def test_forms_of_values(text: str) -> None:
    read, expected = net(text), text_format.Parse(text, caffe_pb2.NetParameter())
    assert read.SerializeToString() == expected.SerializeToString()


@pytest.mark.parametrize(
    ("text", "place", "fact"),
    [
        ("input_dim: 1.0", "1:12", 'Expected integer, got: "1.0"'),
        ("input_dim: 3000000000", "1:12", r"Integer out of range \(3000000000\)"),
        ("input_dim: 3x3", "1:12", 'Expected integer, got: "3x3"'),
        ("layer { loss_weight: high }", "1:22", 'Expected a number, got: "high"'),
        ("layer { loss_weight: [1 2] }", "1:25", 'Expected ",", found "2"'),
        ("name 'a'", "1:6", """Expected ":", found 'a'"""),
        ("name: 'a", "1:7", "The string 'a has no closing quote"),
        ("layer: 3", "1:8", 'Expected "{", found "3"'),
        ("layer { name: 'a' ) }", "1:19", r'Expected the name of a field, found "\)"'),
        ("layer {\n", "1:7", "Expected the name of a field, found the end of the text"),
        ("layer { phase: 7 }", "1:16", "has no value with number 7. Known: TRAIN = 0, TEST = 1"),
        ("force_backward: 'yes'", "1:17", "Write force_backward: true or force_backward: false"),
        (r'name: "D:\images\" force_backward: true', "1:7", r'Write "D:/images/" or "D:\\\\images'),
    ],
)
def test_faults(text: str, place: str, fact: str) -> None:
    with pytest.raises(SchemaError, match=fact) as caught:
        net(text)
    assert f":{place}: Error parsing text-format caffe.NetParameter: " in str(caught.value)


def test_strings_in_any_encoding() -> None:
    text = to_text(b'name: "' + GBK + b'" input: "\xc3\xa9" input: "\\276\\355\\273\\375"')
    read = net(text)
    assert to_bytes(read.name) == GBK
    assert read.input[0] == "é"
    assert read.input[1] == read.name  # octal escapes of the same bytes


def test_a_stray_byte_changes_nothing_else() -> None:
    assert net(to_text(b'# caf\xe9\nname: "') + 'é"').name == "é"
