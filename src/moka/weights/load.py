"""Weights in files: copied into a net by layer name, written layer by layer.

Reads and writes BVLC Caffe's `.caffemodel`, a binary NetParameter in which each layer has its
parameters as blobs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from moka.blob import Blob
from moka.errors import SchemaError, WeightsError
from moka.layers.base import Layer, shape_text
from moka.net import Net
from moka.schema import caffe_pb2, read_binary, write_binary
from moka.schema.blobproto import to_array
from moka.schema.text import PathLike

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")


def load_weights(net: Net, files: PathLike | Iterable[PathLike]) -> None:
    """Copy parameters from one or several .caffemodel files into layers of the same name.

    Layers of the file that the net lacks are skipped with a log line, layers that the file lacks
    keep their values. Nothing is changed if a file does not fit.

    Args:
        files: a file, several separated by commas, or an iterable of files.

    Raises:
        WeightsError: a file that is no model, or a layer whose parameters differ in number or
            shape.
    """
    if isinstance(files, (str, os.PathLike)):
        files = os.fspath(files).split(",")
    _carry_out([copy for file in files for copy in _plan(net, read_model(file), file)])


def read_model(file: PathLike) -> caffe_pb2.NetParameter:
    """A .caffemodel as a message.

    Raises:
        WeightsError: missing, truncated, or something else.
    """
    if _is_hdf5(file):
        raise WeightsError(
            "this is an HDF5 file; only binary .caffemodel files can be read.", file=file
        )
    try:
        model = read_binary(file, caffe_pb2.NetParameter)
    except SchemaError as error:
        raise WeightsError(error.message, file=error.file, advice=error.advice) from None
    if model.layers and not model.layer:
        raise WeightsError(
            "this model is in the form of 2014 and before (V1 layers), which cannot be read.",
            file=file,
            advice="Upgrade it with BVLC Caffe's upgrade_net_proto_binary.",
        )
    if not model.layer:
        raise WeightsError("this file holds no layers: it is no model.", file=file)
    return model


def _is_hdf5(file: PathLike) -> bool:
    try:
        with open(file, "rb") as opened:
            return opened.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


def copy_weights(net: Net, model: caffe_pb2.NetParameter, file: PathLike = "(model)") -> None:
    """Copy the blobs of a model's layers into the net's layers of the same name."""
    _carry_out(_plan(net, model, file))


Plan = list[tuple[Blob, NDArray[np.float32]]]


def _carry_out(plan: Plan) -> None:
    for target, values in plan:
        target.data_memory.put(torch.from_numpy(values.reshape(target.shape)))


def _plan(net: Net, model: caffe_pb2.NetParameter, file: PathLike) -> Plan:
    """Which of the net's blobs get which values of a model, if all of them fit."""
    by_name: dict[str, list[int]] = {}
    for i, node in enumerate(net.graph.nodes):
        by_name.setdefault(node.name, []).append(i)
    found: Plan = []
    for layer in model.layer:
        if layer.name not in by_name:
            detail.info("Ignoring source layer %s", layer.name)
            continue
        same_name = by_name[layer.name]  # a repeated name: the first of the file to the first here
        targets = net.layer_blobs(same_name.pop(0) if len(same_name) > 1 else same_name[0])
        if len(targets) != len(layer.blobs):
            raise WeightsError(
                f"Incompatible number of blobs for layer {layer.name}: the file has"
                f" {len(layer.blobs)}, the net {len(targets)}.",
                file=file,
                advice="Rename the layer to train it from scratch, or pass other weights.",
            )
        for k, (target, source) in enumerate(zip(targets, layer.blobs, strict=True)):
            found.append((target, _fitting(target.shape, source, layer.name, k, file)))
    if not found and net.learnable:
        log.warning("%s has no parameters for any layer of this net.", file)
    return found


def _fitting(
    wanted: Sequence[int], source: caffe_pb2.BlobProto, layer: str, index: int, file: PathLike
) -> NDArray[np.float32]:
    """The stored blob as an array, if its shape fits: equal, or legacy 4-D equal at the end."""
    try:
        values = to_array(source)
    except SchemaError as error:
        raise WeightsError(error.message, file=file, layer=layer) from None
    have = tuple(values.shape)
    legacy = any(source.HasField(n) for n in ("num", "channels", "height", "width"))
    padded = (1,) * (4 - len(wanted)) + tuple(wanted)
    if have == (padded if legacy else tuple(wanted)):
        return values
    raise WeightsError(
        f"Cannot copy param {index} weights from layer '{layer}'; shape mismatch. Source param"
        f" shape is {shape_text(have)}; target param shape is {shape_text(wanted)}. To learn this"
        " layer's parameters from scratch rather than copying from a saved net, rename the layer.",
        file=file,
    )


def share_weights(net: Net, owner: Net, *, say_what_is_missing: bool = True) -> None:
    """Let the net use another net's parameters, layer by layer of the same name.

    Args:
        say_what_is_missing: log the owner's layers that the net lacks.

    Raises:
        WeightsError: a layer whose parameters differ in number or shape; nothing is shared then.
    """
    by_name = {node.name: i for i, node in enumerate(net.graph.nodes)}
    pairs: list[tuple[int, Layer]] = []
    for j, node in enumerate(owner.graph.nodes):
        if node.name not in by_name:
            if say_what_is_missing:
                detail.info("Ignoring source layer %s", node.name)
            continue
        mine, theirs = net.layers[by_name[node.name]], owner.layers[j]
        if mine.blob_shapes != theirs.blob_shapes:
            raise WeightsError(
                f"Cannot share weights of layer '{node.name}': its parameters have shapes"
                f" {mine.blob_shapes} in phase {_phase(net)}, {theirs.blob_shapes} in phase"
                f" {_phase(owner)}.",
                file=net.graph.file,
            )
        if any(a is not b for a, b in zip(mine.weights, theirs.weights, strict=True)):
            pairs.append((by_name[node.name], theirs))
    for i, theirs in pairs:
        for k, weight in enumerate(theirs.weights):
            net.layers[i].share_weight(k, weight)
        net.forget_layer_blobs(i)


def _phase(net: Net) -> str:
    return caffe_pb2.Phase.Name(net.graph.phase)


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
