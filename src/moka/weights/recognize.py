"""Recognizes files that were given as a model but are something else, by how they begin."""

from __future__ import annotations

import contextlib
import re

from google.protobuf.message import DecodeError

from moka.byte_text import to_text
from moka.schema import caffe_pb2
from moka.schema.beginnings import FETCH_AGAIN, Recognized, known_beginning
from moka.schema.wire import LAYER, LAYER_NUMBERS, LENGTH, VARINT, WireField, wire_fields

_OTHER_FILE = "Give the .caffemodel that belongs to the net."
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]*")
_DESCRIPTION = re.compile(rb"\blayers?\s*\{|\b(?:net|base_lr)\s*:")


def recognize(data: bytes, *, parsed: bool) -> Recognized:
    """Tell what a file is that does not parse as a model, or holds no layers.

    Args:
        data: the whole file.
        parsed: whether the bytes are a protobuf message, though one without layers.
    """
    if not data:
        return Recognized("the file is empty: it is no model", FETCH_AGAIN)
    if known := known_beginning(data):
        return known
    head = data[:4096]
    if _TEXT.fullmatch(head):
        described = _DESCRIPTION.search(head)
        kind = "a description in text (prototxt)" if described else "text"
        return Recognized(f"this is {kind}, not weights", "Weights are in a .caffemodel.")
    if found := _other_message(data):
        return found
    if parsed:
        return Recognized("this file holds no layers: it is no model", _OTHER_FILE)
    return _truncated(data) or Recognized(
        "this is not a complete binary NetParameter: it is truncated, or another kind of file",
        FETCH_AGAIN,
    )


def _other_message(data: bytes) -> Recognized | None:
    """For a solver's state or a mean image, which are binary messages too; both may be cut."""
    fields: list[WireField] = []
    with contextlib.suppress(DecodeError):
        fields.extend(wire_fields(data))
    wire_types = {field.number: field.wire_type for field in fields}
    if wire_types.get(1) == VARINT and wire_types.get(3) == LENGTH:  # iter, history
        head = (data[f.start : f.end] for f in fields if f.number <= 2 and f.end <= len(data))
        state = caffe_pb2.SolverState.FromString(b"".join(head))
        return Recognized(
            f"this is a solver's state of iteration {state.iter}, not a model",
            f"Its model is {state.learned_net}." if state.learned_net else _OTHER_FILE,
        )
    sizes = {wire_types.get(number, VARINT) for number in (1, 2, 3, 4)}  # of the old 4-D form
    if sizes == {VARINT} and LENGTH in (wire_types.get(5), wire_types.get(8)):  # its numbers
        return Recognized("this is one blob, as a mean image, not a model", "Give it as a mean.")
    return None


def _truncated(data: bytes) -> Recognized | None:
    """For a model that ends too early: which layer it ends in, and how many bytes are missing."""
    layers = 0
    with contextlib.suppress(DecodeError):
        for field in wire_fields(data):
            layers += field.number in LAYER_NUMBERS
            if field.end <= len(data):
                continue
            if field.number not in LAYER_NUMBERS:
                return None
            name = _name(data[field.content :]) if field.number == LAYER else ""
            return Recognized(
                f"the file is truncated: it ends in layer {layers}{name}, of which"
                f" {field.end - len(data):,} of {field.end - field.content:,} bytes are missing",
                FETCH_AGAIN,
            )
    return None


def _name(layer: bytes) -> str:
    """The name of a layer, as ` "conv1"`, if it comes first, is whole, and is short."""
    if layer[:1] != b"\x0a" or len(layer) < 2:
        return ""
    length, name = layer[1], layer[2 : 2 + layer[1]]
    return f' "{to_text(name)}"' if 0 < length == len(name) < 0x80 else ""
