"""Binary messages as rows of fields, for files in which forks give numbers other meanings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from moka.schema import caffe_pb2
from moka.varint import read_varint

M = TypeVar("M", bound=Message)

_FIXED = {1: 8, 5: 4}  # sizes of the wire types with a fixed size
VARINT = 0  # the wire type of whole numbers
LENGTH = 2  # the wire type of strings, messages and packed lists
LAYER, V1_LAYER = 100, 2  # numbers in NetParameter; those in V1 layers mean the same in all forks
LAYER_NUMBERS = (LAYER, V1_LAYER)
# What every fork writes under the same number: name, type, bottom, top, loss_weight, param, blobs,
# include, exclude, phase, propagate_down. Other options come from the prototxt.
SAME_IN_ALL_FORKS = frozenset(range(1, 12))


class WireField(NamedTuple):
    """One field on the wire.

    Attributes:
        start, end: where it stands, with its tag.
        content: where its content begins; without the length of strings and messages.
    """

    number: int
    wire_type: int
    start: int
    content: int
    end: int


def wire_fields(data: bytes | memoryview) -> Iterator[WireField]:
    """Yield the fields of a message; raises DecodeError where it cannot be one.

    The last field may end beyond the data, if it is cut.
    """
    position = 0
    while position < len(data):
        start = position
        tag, position = _number(data, position)
        number, wire_type = tag >> 3, tag & 7
        content = position
        if wire_type == VARINT:
            _, end = _number(data, position)
        elif wire_type in _FIXED:
            end = position + _FIXED[wire_type]
        elif wire_type == LENGTH:
            length, content = _number(data, position)
            end = content + length
        else:
            raise DecodeError(f"wire type {wire_type}")
        if number == 0:
            raise DecodeError("field number 0")
        yield WireField(number, wire_type, start, content, end)
        position = end


def parse_net(data: bytes) -> caffe_pb2.NetParameter:
    """Parse a .caffemodel of any fork.

    A field that does not parse as ours is another fork's and is left out; what all forks write in
    the same way has to parse.

    Raises:
        DecodeError: the bytes are no complete net.
    """
    try:
        return caffe_pb2.NetParameter.FromString(data)
    except DecodeError:
        pass
    net = caffe_pb2.NetParameter()
    view = memoryview(data)
    for field in complete_fields(view):
        if field.number == LAYER and field.wire_type == LENGTH:
            layer = net.layer.add()
            content = view[field.content : field.end]
            for part in complete_fields(content):
                required = part.number in SAME_IN_ALL_FORKS
                merge_field(layer, content[part.start : part.end], required=required)
        else:
            merge_field(net, view[field.start : field.end], required=True)
    return net


def complete_fields(data: memoryview) -> Iterator[WireField]:
    for field in wire_fields(data):
        if field.end > len(data):
            raise DecodeError("truncated")
        yield field


def merge_field(message: Message, data: memoryview, *, required: bool) -> None:
    """Merge one field into a message, unless it does not parse and is not required."""
    single = type(message)()
    try:
        single.ParseFromString(bytes(data))
    except DecodeError:
        if required:
            raise
        return
    message.MergeFrom(single)


def _number(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The number at a position, and the position behind it. Raises DecodeError at the end."""
    try:
        return read_varint(data, position)
    except ValueError as error:
        raise DecodeError(str(error)) from None
