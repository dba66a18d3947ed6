"""A .caffemodel as views of the mapped file: what nobody asks for is neither read nor kept.

Half a gigabyte is looked through in a moment; copying it into a net takes the net's memory alone.
"""

from __future__ import annotations

import mmap
from collections.abc import Container
from contextlib import suppress

import numpy as np
from google.protobuf.message import DecodeError

from moka.errors import SchemaError
from moka.files import local_path
from moka.schema import caffe_pb2
from moka.schema.blobproto import is_legacy, shape_of, shaped, to_array
from moka.schema.strings import as_text, with_text
from moka.schema.upgrade import upgrade_net
from moka.schema.wire import (
    LAYER,
    LENGTH,
    SAME_IN_ALL_FORKS,
    V1_LAYER,
    WireField,
    complete_fields,
    merge_field,
)
from moka.types import Array, PathLike
from moka.weights import binary
from moka.weights.stored import StoredBlob, StoredLayer

_BLOBS = {LAYER: 7, V1_LAYER: 6}  # numbers of a layer's blobs
_V0_LAYER = 1  # number in a layer of 2014 of the layer of 2013 within
_DATA = {5: "<f4", 8: "<f8"}  # numbers in BlobProto of packed data, with the type of an element
_DIFF = (6, 9)
_MOST_FIELDS = 9  # of BVLC's BlobProto; forks have others


def stored_layers(file: PathLike, wanted: Container[str] | None = None) -> list[StoredLayer]:
    """The layers of a .caffemodel with their blobs, whose values are read when they are used.

    Args:
        wanted: names of layers whose blobs are needed; None: all.

    Raises:
        WeightsError: the file is missing, truncated, inconsistent or no model; says what it is.
    """
    # What fails here is read as a whole, which says why. ValueError: the file is empty.
    with suppress(OSError, ValueError, DecodeError, SchemaError, _UnusualError):
        return _Outline(file).layers()
    return binary.stored_layers(binary.read_model(file), wanted, file)


class _UnusualError(Exception):
    """A form that is rare, and small: it is read as a whole."""


class _Outline:
    """A model without its numbers, and for each layer's blobs where those lie."""

    def __init__(self, file: PathLike) -> None:
        self._file = file
        with open(local_path(file), "rb") as opened:
            # Private, because PyTorch takes writable arrays only; nothing is ever written.
            self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        self._net = caffe_pb2.NetParameter()
        self._values: dict[int, list[list[Array]]] = {LAYER: [], V1_LAYER: []}
        for field in complete_fields(view := memoryview(self._map)):
            if field.number in _BLOBS and field.wire_type == LENGTH:
                self._add_layer(field.number, view[field.content : field.end])
            else:
                self._net.MergeFromString(bytes(view[field.start : field.end]))

    def layers(self) -> list[StoredLayer]:
        net = upgrade_net(with_text(self._net), self._file)
        values = self._values[LAYER] + self._values[V1_LAYER]
        if not values:
            raise _UnusualError
        inserted = len(net.layer) - len(values)  # an Input layer in front, for the net's `input`
        return [
            StoredLayer(
                as_text(layer.name),
                {
                    k: StoredBlob(numbers, is_legacy(blob), self._release)
                    for k, (blob, numbers) in enumerate(zip(layer.blobs, blobs, strict=True))
                },
                layer.type,
            )
            for layer, blobs in zip(net.layer, [[]] * inserted + values, strict=True)
        ]

    def _add_layer(self, number: int, content: memoryview) -> None:
        layer = self._net.layer.add() if number == LAYER else self._net.layers.add()
        values: list[Array] = []
        for part in complete_fields(content):
            if part.number == _BLOBS[number]:
                values.append(_add_blob(layer.blobs.add(), content[part.content : part.end]))
            elif number == V1_LAYER and part.number == _V0_LAYER:
                raise _UnusualError
            else:
                required = number == V1_LAYER or part.number in SAME_IN_ALL_FORKS
                merge_field(layer, content[part.start : part.end], required=required)
        self._values[number].append(values)

    def _release(self) -> None:
        """Let go of the pages that were read; they are read again when they are used again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _add_blob(blob: caffe_pb2.BlobProto, content: memoryview) -> Array:
    """Read all of a blob but its numbers; return those as a view."""
    parts = list(complete_fields(content))
    data = [part for part in parts if part.number in _DATA]
    if len(data) > 1 or any(part.number > _MOST_FIELDS for part in parts):
        blob.MergeFromString(bytes(content))  # a fork's form
        values = to_array(blob)
        for name in ("data", "double_data", "diff", "double_diff"):
            blob.ClearField(name)
        return values
    for part in parts:
        if part.number not in _DATA and part.number not in _DIFF:
            blob.MergeFromString(bytes(content[part.start : part.end]))
    numbers = _numbers(data[0], content) if data else np.empty(0, np.float32)
    return shaped(numbers, shape_of(blob))


def _numbers(part: WireField, content: memoryview) -> Array:
    dtype = np.dtype(_DATA[part.number])
    if part.wire_type != LENGTH or (part.end - part.content) % dtype.itemsize:
        raise _UnusualError
    return np.frombuffer(content[part.content : part.end], dtype)
