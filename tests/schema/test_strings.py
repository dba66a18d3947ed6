"""Strings that are not UTF-8 come through Python byte for byte."""

from __future__ import annotations

from pathlib import Path

from moka.byte_text import to_text
from moka.schema import caffe_pb2, format_text, parse_text, read_binary, write_binary
from moka.schema.strings import with_bytes, with_text

GBK = "卷积".encode("gbk")


def written_by_caffe() -> bytes:
    net = caffe_pb2.NetParameter(name="ABCD")
    net.layer.add(name="ABCD", top=["ABCD", "é"]).data_param.source = "ABCD/list"
    net.layer[0].blobs.add(data=[1, 2])
    return net.SerializeToString().replace(b"ABCD", GBK)


def test_binary_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(written_by_caffe())
    net = read_binary(file, caffe_pb2.NetParameter)
    assert net.name == net.layer[0].name == net.layer[0].top[0] == to_text(GBK)
    assert net.layer[0].top[1] == "é"
    assert net.layer[0].data_param.source == to_text(GBK) + "/list"
    write_binary(file, net)
    assert caffe_pb2.NetParameter.FromString(
        file.read_bytes()
    ) == caffe_pb2.NetParameter.FromString(written_by_caffe())
    assert len(file.read_bytes()) == len(written_by_caffe())


def test_text_has_the_bytes() -> None:
    net = with_text(caffe_pb2.NetParameter.FromString(written_by_caffe()))
    text = format_text(net)
    assert r'name: "\276\355\273\375"' in text
    assert parse_text(text, caffe_pb2.NetParameter) == net


def test_a_message_without_such_strings_is_written_itself() -> None:
    net = caffe_pb2.NetParameter(name="é")
    assert with_bytes(net) is net


def test_a_long_string() -> None:
    state = caffe_pb2.SolverState(learned_net=to_text(b"\xff" * 300))
    assert b"\xff" * 300 in with_bytes(state).SerializeToString()
    assert state.learned_net == to_text(b"\xff" * 300)
