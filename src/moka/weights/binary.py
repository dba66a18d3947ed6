"""The .caffemodel: a binary NetParameter in which each layer has its parameters as blobs."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import torch
from numpy.typing import NDArray

from moka.errors import SchemaError, WeightsError
from moka.net import Net
from moka.schema import caffe_pb2, read_binary, write_binary
from moka.schema.blobproto import is_legacy, to_array
from moka.schema.upgrade import upgrade_net
from moka.types import PathLike
from moka.weights.stored import StoredBlob, StoredLayer


def read_model(file: PathLike) -> caffe_pb2.NetParameter:
    """A .caffemodel as a message in today's form; its blobs stay as they were stored.

    Raises:
        WeightsError: missing, truncated, inconsistent, or something else.
    """
    try:
        model = upgrade_net(read_binary(file, caffe_pb2.NetParameter), file)
    except SchemaError as error:
        raise WeightsError(
            error.message, file=error.file, layer=error.layer, advice=error.advice
        ) from None
    if not model.layer:
        raise WeightsError("this file holds no layers: it is no model.", file=file)
    return model


def stored_layers(
    model: caffe_pb2.NetParameter, wanted: Container[str], file: PathLike
) -> list[StoredLayer]:
    """A model's layers in order, with the blobs of those whose name is wanted.

    Raises:
        WeightsError: a blob whose count of numbers does not fit its shape.
    """
    return [
        StoredLayer(layer.name, _blobs(layer, file) if layer.name in wanted else {})
        for layer in model.layer
    ]


def _blobs(layer: caffe_pb2.LayerParameter, file: PathLike) -> dict[int, StoredBlob]:
    try:
        return {k: StoredBlob(to_array(b), is_legacy(b)) for k, b in enumerate(layer.blobs)}
    except SchemaError as error:
        raise WeightsError(error.message, file=file, layer=layer.name) from None


def to_message(net: Net, *, with_diffs: bool = False) -> caffe_pb2.NetParameter:
    """The net with its parameters: every layer, inserted splits too, as BVLC Caffe saves it."""
    message = caffe_pb2.NetParameter(name=net.name)
    for i, node in enumerate(net.graph.nodes):
        layer = message.layer.add()
        layer.CopyFrom(node.layer)
        layer.ClearField("blobs")
        for blob in net.layer_blobs(i):
            proto = layer.blobs.add()
            proto.shape.dim.extend(blob.shape)
            proto.data.extend(_flat(blob.data_memory.tensor()))
            if with_diffs:
                proto.diff.extend(_flat(blob.diff_memory.tensor()))
    return message


def _flat(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().ravel()


def save_weights(net: Net, file: PathLike, *, with_diffs: bool = False) -> None:
    """Write a .caffemodel; the file is complete or not there at all."""
    write_binary(file, to_message(net, with_diffs=with_diffs))
