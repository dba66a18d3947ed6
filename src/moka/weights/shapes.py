"""The names and shapes in a file of weights, without its numbers.

Half a gigabyte is looked through in a moment, and takes no memory.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

import numpy as np
from google.protobuf.message import DecodeError

from moka.errors import SchemaError, WeightsError
from moka.files import local_path
from moka.hdf5 import is_hdf5
from moka.schema import caffe_pb2
from moka.schema.blobproto import is_legacy, shape_of, to_array
from moka.schema.strings import as_text, with_text
from moka.schema.upgrade import upgrade_net
from moka.schema.wire import LAYER, SAME_IN_ALL_FORKS, V1_LAYER, WireField, complete_fields
from moka.types import PathLike
from moka.weights import hdf5
from moka.weights.binary import read_model
from moka.weights.stored import StoredBlob, StoredLayer, valueless

_BYTES = 2  # the wire type of messages, strings and packed numbers
_LAYERS = {
    LAYER: 7,
    V1_LAYER: 6,
}  # numbers in NetParameter of its layers, with those of the layers' blobs
_V0_LAYER = 1  # number in a layer of 2014 of the layer of 2013 within
_DATA = {5: 4, 8: 8}  # numbers in BlobProto of packed data, with the bytes of an element
_DIFF = (6, 9)


def stored_shapes(file: PathLike) -> list[StoredLayer]:
    """The layers of a model file with the shapes of their blobs; the values are all 0.

    Args:
        file: a .caffemodel or its HDF5 form, recognized by content.

    Raises:
        WeightsError: the file is missing, truncated or no model; says what it is.
    """
    if is_hdf5(file):
        return hdf5.stored_layers(file, None, shapes_only=True)
    # What fails here is read as a whole, which says why. ValueError: the file is empty.
    with suppress(OSError, ValueError, DecodeError, SchemaError, _UnusualError):
        return _from_outline(_outline(file), file)
    return _from_model(read_model(file), file)


class _UnusualError(Exception):
    """A form that is rare, and small: it is read as a whole."""


def _outline(file: PathLike) -> caffe_pb2.NetParameter:
    """The model's layers with their blobs, in which `data` is left out."""
    net = caffe_pb2.NetParameter()
    with open(local_path(file), "rb") as opened:
        view = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    for field in complete_fields(view):
        if field.number in _LAYERS and field.wire_type == _BYTES:
            _add_layer(net, field.number, view[field.content : field.end])
    if not net.layer and not net.layers:
        raise _UnusualError
    return net


def _add_layer(net: caffe_pb2.NetParameter, number: int, content: memoryview) -> None:
    layer = net.layer.add() if number == LAYER else net.layers.add()
    for part in complete_fields(content):
        data = content[part.start : part.end]
        if part.number == _LAYERS[number]:
            _add_blob(layer.blobs.add(), content[part.content : part.end])
        elif number == LAYER and part.number not in SAME_IN_ALL_FORKS:
            continue
        elif number == V1_LAYER and part.number == _V0_LAYER:
            raise _UnusualError
        else:
            layer.MergeFromString(bytes(data))


def _add_blob(blob: caffe_pb2.BlobProto, content: memoryview) -> None:
    """Read a blob's shape, and compare it with the count of its numbers."""
    parts = list(complete_fields(content))
    counts = [count for part in parts if (count := _count(part)) is not None]
    if len(counts) > 1 or any(part.number > 9 for part in parts):
        blob.MergeFromString(bytes(content))  # a fork's form
        values = to_array(blob)
        blob.Clear()
        blob.shape.dim.extend(values.shape)
        return
    for part in parts:
        if part.number not in _DATA and part.number not in _DIFF:
            blob.MergeFromString(bytes(content[part.start : part.end]))
    shape, count = shape_of(blob), sum(counts)
    if np.prod(shape, dtype=np.int64) != count:
        raise SchemaError(f"a blob of shape {shape} holds {count} numbers.")


def _count(part: WireField) -> int | None:
    """The number of values in a packed field; None if the field is not data."""
    if part.number not in _DATA:
        return None
    if part.wire_type != _BYTES:
        raise _UnusualError
    return (part.end - part.content) // _DATA[part.number]


def _from_outline(net: caffe_pb2.NetParameter, file: PathLike) -> list[StoredLayer]:
    net = upgrade_net(with_text(net), file)
    return [
        StoredLayer(
            as_text(layer.name),
            {
                k: StoredBlob(valueless(shape_of(b)), is_legacy(b))
                for k, b in enumerate(layer.blobs)
            },
            layer.type,
        )
        for layer in net.layer
    ]


def _from_model(model: caffe_pb2.NetParameter, file: PathLike) -> list[StoredLayer]:
    for layer in model.layer:
        for blob in layer.blobs:
            try:
                shape, legacy = to_array(blob).shape, is_legacy(blob)
            except SchemaError as error:
                raise WeightsError(error.message, file=file, layer=layer.name) from None
            blob.Clear()
            if legacy:
                blob.num, blob.channels, blob.height, blob.width = shape
            else:
                blob.shape.dim.extend(shape)
    return _from_outline(model, file)
