"""The .caffemodel: a binary NetParameter in which each layer has its parameters as blobs."""

from __future__ import annotations

import contextlib
from collections.abc import Container

import numpy as np
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from moka.errors import SchemaError, WeightsError
from moka.files import read_bytes
from moka.net import Net
from moka.schema import caffe_pb2, write_binary
from moka.schema.blobproto import from_array, is_legacy, to_array
from moka.schema.strings import as_text, with_text
from moka.schema.text import cannot_open
from moka.schema.upgrade import upgrade_net
from moka.schema.wire import parse_net
from moka.types import PathLike
from moka.weights.recognize import recognize
from moka.weights.stored import StoredBlob, StoredLayer


def read_model(file: PathLike) -> caffe_pb2.NetParameter:
    """Read a .caffemodel into a message in today's form; its blobs stay as they were stored.

    Raises:
        WeightsError: missing, truncated, inconsistent, or something else; says what it is.
    """
    try:
        data = read_bytes(file)
    except OSError as error:
        raise _of_weights(cannot_open(file, error)) from None
    return parse_model(data, file)


def parse_model(data: bytes, file: PathLike = "(buffer)") -> caffe_pb2.NetParameter:
    """Read the bytes of a .caffemodel, as `read_model` does a file.

    Args:
        file: where it came from, for messages.

    Raises:
        WeightsError: truncated, inconsistent, or something else; says what it is.
    """
    try:
        return upgrade_net(_parsed(data, file), file)
    except SchemaError as error:
        raise _of_weights(error) from None


def _of_weights(error: SchemaError) -> WeightsError:
    return WeightsError(error.message, file=error.file, layer=error.layer, advice=error.advice)


def _parsed(data: bytes, file: PathLike) -> caffe_pb2.NetParameter:
    model = None
    with contextlib.suppress(DecodeError):
        model = with_text(parse_net(data))
        if model.layer or model.layers:
            return model
    found = recognize(data, parsed=model is not None)
    raise WeightsError(f"{found.fact}.", file=file, advice=found.advice)


def stored_layers(
    model: caffe_pb2.NetParameter, wanted: Container[str] | None, file: PathLike
) -> list[StoredLayer]:
    """Return a model's layers in order, with the blobs of those whose name is wanted (None: all).

    Raises:
        WeightsError: a blob whose count of numbers does not fit its shape.
    """
    names = [as_text(layer.name) for layer in model.layer]
    return [
        StoredLayer(
            name, _blobs(layer, file) if wanted is None or name in wanted else {}, layer.type
        )
        for name, layer in zip(names, model.layer, strict=True)
    ]


def _blobs(layer: caffe_pb2.LayerParameter, file: PathLike) -> dict[int, StoredBlob]:
    try:
        return {k: StoredBlob(to_array(b), is_legacy(b)) for k, b in enumerate(layer.blobs)}
    except SchemaError as error:
        raise WeightsError(error.message, file=file, layer=layer.name) from None


def to_message(net: Net, *, with_diffs: bool = False) -> caffe_pb2.NetParameter:
    """Make a message of the net with its parameters: every layer, inserted splits too, as BVLC
    Caffe saves it."""
    message = caffe_pb2.NetParameter(name=net.name)
    for i, node in enumerate(net.graph.nodes):
        layer = message.layer.add()
        layer.CopyFrom(node.layer)
        layer.ClearField("blobs")
        for blob in net.layer_blobs(i):
            diff = _array(blob.diff_memory.tensor()) if with_diffs else None
            layer.blobs.append(from_array(_array(blob.data_memory.tensor()), diff))
    return message


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy()


def save_weights(net: Net, file: PathLike, *, with_diffs: bool = False) -> None:
    """Write a .caffemodel; the file is complete or not there at all."""
    write_binary(file, to_message(net, with_diffs=with_diffs))
