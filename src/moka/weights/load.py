"""Weights from files into a net, by layer name."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from moka.blob import Blob
from moka.errors import WeightsError
from moka.hdf5 import is_hdf5
from moka.layers.shapes import shape_text
from moka.net import Net
from moka.schema import caffe_pb2
from moka.schema.blobproto import fits
from moka.types import PathLike
from moka.weights import binary, hdf5
from moka.weights.stored import StoredBlob, StoredLayer

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

Plan = list[tuple[Blob, NDArray[np.float32]]]  # which blob of the net gets which values


def load_weights(net: Net, files: PathLike | Iterable[PathLike]) -> None:
    """Copy parameters from one or several model files into layers of the same name.

    Layers of the file that the net lacks are skipped with a log line, layers that the file lacks
    keep their values. Nothing is changed if a file does not fit.

    Args:
        files: a .caffemodel or its HDF5 form (recognised by content), several separated by
            commas, or an iterable of files.

    Raises:
        WeightsError: a file that is no model, or a layer whose parameters differ in number or
            shape.
    """
    if isinstance(files, (str, os.PathLike)):
        files = os.fspath(files).split(",")
    _carry_out([copy for file in files for copy in _plan_of_file(net, file)])


def copy_weights(net: Net, model: caffe_pb2.NetParameter, file: PathLike = "(model)") -> None:
    """Copy the blobs of a model's layers into the net's layers of the same name."""
    _carry_out(_plan(net, binary.stored_layers(model, _names(net), file), file))


def _carry_out(plan: Plan) -> None:
    for target, values in plan:
        target.data_memory.put(torch.from_numpy(values.reshape(target.shape)))


def _plan_of_file(net: Net, file: PathLike) -> Plan:
    if is_hdf5(file):
        sharers = {user for blob in net.learnable for user in blob.users[1:]}
        return _plan(net, hdf5.stored_layers(file, _names(net)), file, may_miss=sharers)
    model = binary.read_model(file)
    return _plan(net, binary.stored_layers(model, _names(net), file), file)


def _names(net: Net) -> set[str]:
    return {node.name for node in net.graph.nodes}


def _plan(
    net: Net,
    layers: Iterable[StoredLayer],
    file: PathLike,
    may_miss: Iterable[tuple[int, int]] = (),
) -> Plan:
    """What to copy, if all of it fits.

    Args:
        may_miss: (layer index, blob index) of the net's parameters that a layer in the file need
            not have.
    """
    by_name: dict[str, list[int]] = {}
    for i, node in enumerate(net.graph.nodes):
        by_name.setdefault(node.name, []).append(i)
    found: Plan = []
    for layer in layers:
        if layer.name not in by_name:
            detail.info("Ignoring source layer %s", layer.name)
            continue
        same_name = by_name[layer.name]  # a repeated name: the first of the file to the first here
        i = same_name.pop(0) if len(same_name) > 1 else same_name[0]
        targets = net.layer_blobs(i)
        wanted = set(range(len(targets)))
        needed = wanted - {k for j, k in may_miss if j == i}
        if not needed <= layer.blobs.keys() <= wanted:
            raise WeightsError(
                f"Incompatible number of blobs for layer {layer.name}: the file has"
                f" {len(layer.blobs)}, the net {len(targets)}.",
                file=file,
                advice="Rename the layer to train it from scratch, or pass other weights.",
            )
        for k, blob in sorted(layer.blobs.items()):
            found.append((targets[k], _fitting(targets[k].shape, blob, layer.name, k, file)))
    if not found and net.learnable:
        log.warning("%s has no parameters for any layer of this net.", file)
    return found


def _fitting(
    wanted: Sequence[int], stored: StoredBlob, layer: str, index: int, file: PathLike
) -> NDArray[np.float32]:
    """The stored values, if their shape fits: equal, or legacy 4-D equal at the end."""
    have = stored.values.shape
    if fits(have, tuple(wanted), legacy=stored.legacy):
        return stored.values
    raise WeightsError(
        f"Cannot copy param {index} weights from layer '{layer}'; shape mismatch. Source param"
        f" shape is {shape_text(have)}; target param shape is {shape_text(wanted)}. To learn this"
        " layer's parameters from scratch rather than copying from a saved net, rename the layer.",
        file=file,
    )
