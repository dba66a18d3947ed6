"""Models of forks, whose numbers mean other things, give names, types and blobs."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from moka.schema import caffe_pb2
from moka.schema.wire import parse_net, wire_fields
from moka.varint import varint


def sized(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def layer(*foreign: bytes, name: str = "a") -> bytes:
    message = caffe_pb2.LayerParameter(name=name, type="T", bottom=["x"], top=["y"])
    message.blobs.add(data=[1, 2]).shape.dim.append(2)
    return sized(100, message.SerializeToString() + b"".join(foreign))


@pytest.mark.parametrize(
    "foreign",
    [
        [],
        [varint(145 << 3) + b"\x01", varint(149 << 3) + b"\x01"],  # NVCaffe's types and debug
        [sized(145, sized(1, b"\xff\xff\xff"))],  # a string where BVLC has the shape of Parameter
        [sized(143, b"\x0a\x7fx")],  # what cannot be the shapes of Input
        [sized(151, b"\xff\xff"), sized(147, b"\x07")],
    ],
)
def test_what_does_not_parse_is_left_out(foreign: list[bytes]) -> None:
    net = parse_net(sized(1, b"n") + layer(*foreign) + layer(name="b"))
    assert net.name == "n"
    assert [each.name for each in net.layer] == ["a", "b"]
    for each in net.layer:
        assert (each.type, list(each.bottom), list(each.top)) == ("T", ["x"], ["y"])
        assert list(each.blobs[0].data) == [1, 2]


def test_a_number_that_means_the_same_is_read() -> None:
    param = caffe_pb2.ConvolutionParameter(num_output=3).SerializeToString()
    net = parse_net(layer(sized(106, param), sized(143, b"\x0a\x7fx")))
    assert net.layer[0].convolution_param.num_output == 3


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_truncated_model(cut: int) -> None:
    whole = sized(1, b"n") + layer() + layer()
    with pytest.raises(DecodeError):
        parse_net(whole[:-cut])


def test_blobs_have_to_parse() -> None:
    with pytest.raises(DecodeError):
        parse_net(sized(100, sized(7, b"\xff\xff")))


def test_wire_fields() -> None:
    data = b"\x08\x96\x01" + sized(2, b"ab") + b"\x1d1234" + b"\x2112345678"
    fields = list(wire_fields(data))
    assert [(f.number, f.wire_type, data[f.content : f.end]) for f in fields] == [
        (1, 0, b"\x96\x01"),
        (2, 2, b"ab"),
        (3, 5, b"1234"),
        (4, 1, b"12345678"),
    ]
    for broken in (b"\x0b", b"\x00\x00", b"\xff"):
        with pytest.raises(DecodeError):
            list(wire_fields(broken))
