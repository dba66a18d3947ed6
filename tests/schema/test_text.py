from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from moka.byte_text import to_text
from moka.errors import SchemaError
from moka.schema import (
    caffe_pb2,
    format_text,
    parse_text,
    read_binary,
    read_text,
    write_binary,
    write_text,
)

TEXT = """name: "n"
layer {
  name: "ip"
  type: "InnerProduct"
  bottom: "x"
  top: "y"
  phase: TEST
  inner_product_param {
    num_output: 4
  }
}
"""


def net() -> caffe_pb2.NetParameter:
    return parse_text(TEXT, caffe_pb2.NetParameter)


def test_text_round_trip() -> None:
    message = net()
    assert message.layer[0].inner_product_param.num_output == 4
    assert format_text(message) == TEXT


def test_a_file_with_comments(tmp_path: Path) -> None:
    file = tmp_path / "a.prototxt"
    file.write_text("# ein Netz: ä\n" + TEXT, encoding="utf-8")
    assert read_text(file, caffe_pb2.NetParameter) == net()


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (
            'name: "n"\nlayr { }',
            "2:1",
            r'Message type "caffe.NetParameter" has no field named "layr"\. Did you mean "layer"\?',
        ),
        (
            "layer {\n  convolution_param { kernel_siz: 3 } }",
            "2:23",
            r'has no field named "kernel_siz"\. Did you mean "kernel_size"\?',
        ),
        (
            "layer { phase: TRAINING }",
            "1:16",
            r'Enum type "caffe.Phase" has no value named TRAINING\. Did you mean "TRAIN"\?',
        ),
        (
            "layer { pooling_param { pool: XYZ } }",
            "1:31",
            r"has no value named XYZ\. Known: MAX, AVE, STOCHASTIC",
        ),
        ('name: "n" name: "m"', "1:17", 'should not have multiple "name" fields'),
        ("layer {", "1:7", "Error parsing text-format caffe.NetParameter"),
        ("force_backward: maybe", "1:17", "Error parsing text-format caffe.NetParameter"),
    ],
)
def test_faults_are_placed_and_named(tmp_path: Path, text: str, place: str, message: str) -> None:
    file = tmp_path / "bad.prototxt"
    file.write_text(text)
    with pytest.raises(SchemaError, match=message) as caught:
        read_text(file, caffe_pb2.NetParameter)
    assert str(caught.value).startswith(f"Failed to parse NetParameter file: {file}:{place}: ")


def test_a_field_that_is_like_nothing() -> None:
    with pytest.raises(SchemaError, match=r'"zzzzzz"\. No fork .* pass --unknown_fields=warn'):
        parse_text("zzzzzz: 1", caffe_pb2.NetParameter)


def test_a_binary_file_is_no_prototxt(tmp_path: Path) -> None:
    file = tmp_path / "a.caffemodel"
    file.write_bytes(b"\x0a\x07LeNet\x00\xff")
    with pytest.raises(SchemaError, match=r"it is not text\. It may be a model"):
        read_text(file, caffe_pb2.NetParameter)


def test_binary_round_trip(tmp_path: Path) -> None:
    write_binary(tmp_path / "a", net())
    assert read_binary(tmp_path / "a", caffe_pb2.NetParameter) == net()
    assert (tmp_path / "a").read_bytes() == net().SerializeToString()


def test_a_truncated_binary_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(net().SerializeToString()[:-3])
    with pytest.raises(SchemaError, match="not a complete binary NetParameter: it is truncated"):
        read_binary(file, caffe_pb2.NetParameter)


def test_a_binary_file_of_another_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros(3))
    with pytest.raises(
        SchemaError, match=r"an array of NumPy; wanted is a binary BlobProto\. Read"
    ):
        read_binary(tmp_path / "mean.npy", caffe_pb2.BlobProto)


def test_a_name_that_is_near(tmp_path: Path) -> None:
    (tmp_path / "deploy.prototxt").touch()
    with pytest.raises(SchemaError, match=r'Did you mean "deploy\.prototxt"\? \(Relative names'):
        read_text(tmp_path / "depoly.prototxt", caffe_pb2.NetParameter)
    with pytest.raises(SchemaError, match=r"Only a shell knows ~: write /\S*net\.prototxt\."):
        read_text("~/net.prototxt", caffe_pb2.NetParameter)


@pytest.mark.parametrize("read", [read_text, read_binary])
def test_files_that_cannot_be_opened(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(SchemaError, match=r"File not found: .*gone \(Relative names start at"):
        read(tmp_path / "gone", caffe_pb2.NetParameter)
    with pytest.raises(SchemaError, match=r"Is a directory|Permission denied"):
        read(tmp_path, caffe_pb2.NetParameter)


@pytest.mark.parametrize(
    ("text", "message_type", "advice"),
    [
        ('layer { name: "a"\nlayer { name: "b" }', caffe_pb2.NetParameter, 'Is a "}" missing'),
        ('layer { name: "a" }', caffe_pb2.SolverParameter, "It is a field of NetParameter"),
        ("base_lr: 1", caffe_pb2.NetParameter, "It is a field of SolverParameter"),
    ],
)
def test_a_field_in_the_wrong_place(
    text: str, message_type: type[caffe_pb2.NetParameter], advice: str
) -> None:
    with pytest.raises(SchemaError, match=re.escape(advice)):
        parse_text(text, message_type)


def test_a_comment_in_an_old_encoding_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.prototxt"
    file.write_bytes('# caf\xe9\nname: "a"'.encode("latin-1"))
    assert read_text(file, caffe_pb2.NetParameter).name == "a"


def test_text_is_written_complete_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a", net())
    assert read_text(tmp_path / "a", caffe_pb2.NetParameter) == net()
    assert (tmp_path / "a").read_text() == format_text(net())
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "no" / "a", net())
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_of_any_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.prototxt"
    file.write_bytes(TEXT.replace('"ip"', '"été"').replace("\n", "\r\n").encode(encoding))
    assert read_text(file, caffe_pb2.NetParameter).layer[0].name == "été"


def test_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    name = "卷积".encode("gbk")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(TEXT)
    solver = parse_text(to_text(b'net: "' + name + b'"'), caffe_pb2.SolverParameter)
    assert read_text(tmp_path / solver.net, caffe_pb2.NetParameter) == net()
