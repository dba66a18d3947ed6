"""The HDF5 form of a model: a dataset `/data/<layer>/<index>` for each parameter.

Layers without parameters have an empty group. A shared parameter is stored with its owner only;
if diffs are stored, `/diff/<layer>/<index>` has them for sharers as well. A "/" in a layer's name
makes groups within groups.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

import torch

from moka.blob import Blob
from moka.byte_text import has_other_bytes, to_bytes, to_text
from moka.errors import WeightsError
from moka.files import local_path
from moka.hdf5 import FAULTS, import_h5py, numbers_of, write_hdf5
from moka.net import Net
from moka.types import PathLike
from moka.weights.stored import StoredBlob, StoredLayer, valueless


def stored_layers(
    file: PathLike, wanted: Container[str] | None, *, shapes_only: bool = False
) -> list[StoredLayer]:
    """Return the layers in a file in alphabetical order, with blobs where the name is wanted.

    Args:
        wanted: names of layers; None: all.
        shapes_only: do not read the values.

    Raises:
        WeightsError: the file is damaged or has no /data, or the group of a wanted layer holds
            anything but datasets of numbers named 0, 1, ...
    """
    h5py = import_h5py()
    try:
        with h5py.File(local_path(file), "r") as opened:
            data = opened.get("data")
            if not isinstance(data, h5py.Group):
                raise _no_model([_text(name) for name in opened], file)
            return [
                StoredLayer(
                    name,
                    _blobs(group, name, file, shapes_only)
                    if wanted is None or name in wanted
                    else {},
                )
                for name, group in _layer_groups(data)
            ]
    except FAULTS as error:
        raise WeightsError(
            f"this HDF5 file is truncated or damaged: {error}.",
            file=file,
            advice="Compare its size or checksum with the original and fetch it again.",
        ) from None


def _layer_groups(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (layer name, group) for all groups that are layers, not only folders of layers."""
    group_type = import_h5py().Group
    for key, member in group.items():
        if isinstance(member, group_type):
            name = prefix + _text(key)
            if not len(member) or not all(isinstance(m, group_type) for m in member.values()):
                yield name, member
            yield from _layer_groups(member, f"{name}/")


def _no_model(names: Sequence[str], file: PathLike) -> WeightsError:
    """The error for a file with these names at its root."""
    if {"iter", "history"} <= {*names}:
        return WeightsError(
            "this HDF5 file is a solver's state, not a model.",
            file=file,
            advice="Its model is the file whose name ends with .caffemodel.h5.",
        )
    kind = "a model of Keras, not of Caffe" if "model_weights" in names else "no model"
    found = ", ".join(names) or "nothing"
    return WeightsError(
        f"this HDF5 file has no group /data: it is {kind} (found {found}).", file=file
    )


def _text(name: str | bytes) -> str:
    """A name in a file as text; h5py gives bytes for names that are not UTF-8."""
    return name if isinstance(name, str) else to_text(name)


def _name(text: str) -> str | bytes:
    """A layer's name as h5py takes it: bytes if it is not UTF-8."""
    return to_bytes(text) if has_other_bytes(text) else text


def _member(group: Any, name: str | bytes) -> Any:
    """The group of this name in a group, made if need be (h5py's own looks for UTF-8 only)."""
    try:
        found = group.get(name)
    except UnicodeDecodeError:  # from the sentence that it does not exist
        found = None
    if found is None:
        return group.create_group(name)
    if not isinstance(found, import_h5py().Group):
        raise TypeError("there is a dataset of this name")
    return found


def _blobs(group: Any, layer: str, file: PathLike, shapes_only: bool) -> dict[int, StoredBlob]:
    h5py = import_h5py()
    blobs: dict[int, StoredBlob] = {}
    for name, member in group.items():
        key = _text(name)
        if isinstance(member, h5py.Group):
            continue
        if not isinstance(member, h5py.Dataset) or not key.isdecimal():
            raise WeightsError(
                f'its group holds "{key}", which is no parameter: those are datasets 0, 1, ...',
                file=file,
                layer=layer,
            )
        if member.dtype.kind not in "fiu":
            raise WeightsError(
                f"dataset {key} holds {member.dtype}, not numbers.", file=file, layer=layer
            )
        values = valueless(member.shape) if shapes_only else numbers_of(member)
        blobs[int(key)] = StoredBlob(values)
    return blobs


def save_hdf5(net: Net, file: PathLike, *, with_diffs: bool = False) -> None:
    """Write a model's HDF5 form; the file is complete or not there at all.

    Raises:
        WeightsError: two layers have one name, or no HDF5 group can have a layer's name.
        OSError: the file cannot be written.
    """
    write_hdf5(file, lambda opened: _write_layers(opened, net, with_diffs))


def _write_layers(opened: Any, net: Net, with_diffs: bool) -> None:
    owners = {blob.owner for blob in net.learnable}
    seen: set[str] = set()
    for i, node in enumerate(net.graph.nodes):
        blobs = dict(enumerate(net.layer_blobs(i)))
        owned = {k: blob for k, blob in blobs.items() if (i, k) in owners}
        try:
            if node.name in seen:
                raise ValueError("another layer has the same name")
            seen.add(node.name)
            _write_group(opened.require_group("data"), node.name, owned, "data_memory")
            if with_diffs:
                _write_group(opened.require_group("diff"), node.name, blobs, "diff_memory")
        except (TypeError, ValueError) as error:
            raise WeightsError(
                f"its name cannot be that of a group in an HDF5 file: {error}.",
                file=net.graph.file,
                layer=node.name,
                layer_type=node.type,
                advice="Rename the layer, or save a .caffemodel.",
            ) from None


def _write_group(side: Any, layer: str, blobs: dict[int, Blob], memory: str) -> None:
    group = _member(side, _name(layer))
    if _text(group.name) != f"{side.name}/{layer}":
        raise ValueError(f"it would become {_text(group.name)}")
    for k, blob in blobs.items():
        tensor: torch.Tensor = getattr(blob, memory).tensor()
        group[str(k)] = tensor.detach().cpu().numpy().reshape(blob.shape)
