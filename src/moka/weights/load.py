"""Weights from files into a net, by layer name."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from moka.blob import Blob
from moka.errors import WeightsError
from moka.hdf5 import is_hdf5
from moka.layers.base import Layer
from moka.memory import ParameterMemory
from moka.net import Net
from moka.schema import caffe_pb2
from moka.schema.blobproto import fits
from moka.types import PathLike
from moka.weights import binary, hdf5, mapped
from moka.weights.misfit import Misfit, misfit_error
from moka.weights.stored import StoredBlob, StoredLayer

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

_MOST_NAMED = 10
_BYTES_AT_A_TIME = 1 << 24


class Copy(NamedTuple):
    """What a file has for one parameter: blob `blob` of the net's layer `layer`."""

    layer: int
    blob: int
    stored: StoredBlob


def named_files(names: str) -> list[str]:
    """The files that a text names, with commas between them; blanks around a name do not count."""
    return [name.strip() for name in names.split(",")]


def load_weights(
    net: Net,
    files: PathLike | Iterable[PathLike],
    *,
    announce: Callable[[PathLike], object] | None = None,
    say_what_is_missing: bool = True,
) -> list[str]:
    """Copy parameters from one or several model files into layers of the same name.

    Layers of the file that the net lacks are skipped with a log line. Layers that no file has keep
    their values; one warning lists those with parameters. Nothing is changed if a file does not
    fit.

    Args:
        files: a .caffemodel or its HDF5 form (recognized by content), several separated by
            commas, or an iterable of files.
        announce: called with each file before it is read.
        say_what_is_missing: log the warning.

    Returns:
        The names of the layers with parameters that the files have none for.

    Raises:
        WeightsError: a file that is no model, or layers whose parameters differ in number or
            shape.
    """
    if isinstance(files, (str, os.PathLike)):
        files = named_files(os.fspath(files))
    files = list(files)
    plan: list[Copy] = []
    for file in files:
        if announce:
            announce(file)
        plan += _plan_of_file(net, file)
    _carry_out(net, plan)
    if files and say_what_is_missing:
        _warn_of_missing(net, plan, ", ".join(os.fspath(file) for file in files))
    return layers_without(net, plan)


def copy_weights(
    net: Net,
    model: caffe_pb2.NetParameter,
    file: PathLike = "(model)",
    *,
    say_what_is_missing: bool = True,
) -> list[str]:
    """Copy the blobs of a model's layers into the net's layers of the same name.

    Args:
        file: where the model came from, for messages.
        say_what_is_missing: log a warning that lists the layers that are returned.

    Returns:
        The names of the layers with parameters that the model has none for.

    Raises:
        WeightsError: layers whose parameters differ in number or shape.
    """
    plan = plan_copies(net, binary.stored_layers(model, _names(net), file), file)
    _carry_out(net, plan)
    if say_what_is_missing:
        _warn_of_missing(net, plan, os.fspath(file))
    return layers_without(net, plan)


def _carry_out(net: Net, plan: list[Copy]) -> None:
    for copy in plan:
        memory = net.layer_blobs(copy.layer)[copy.blob].data_memory
        assert isinstance(memory, ParameterMemory)
        with memory.written() as parameter:
            _copy(copy.stored, parameter)


def _copy(stored: StoredBlob, parameter: torch.Tensor) -> None:
    """Copy values in parts, so that little of a mapped file is in memory at a time."""
    values = torch.from_numpy(stored.values.reshape(parameter.shape))
    if stored.release is None or not values.ndim:
        parameter.copy_(values)
        return
    parts = 1 + stored.values.nbytes // _BYTES_AT_A_TIME
    for target, source in zip(parameter.chunk(parts), values.chunk(parts), strict=True):
        target.copy_(source)
        stored.release()


def _warn_of_missing(net: Net, plan: list[Copy], source: str) -> None:
    """Name the layers with parameters that got none."""
    missing = layers_without(net, plan)
    if not missing:
        return
    if not plan:
        log.warning(
            "%s has no parameters for any layer of this net, which keeps its own. The layers here"
            " are named %s.",
            source,
            _listed(missing),
        )
        return
    several = len(missing) > 1
    log.warning(
        "%s has no parameters for the %s %s, which %s.",
        source,
        "layers" if several else "layer",
        _listed(missing),
        "keep their own" if several else "keeps its own",
    )


def layers_without(net: Net, plan: Iterable[Copy]) -> list[str]:
    """The layers with parameters that a plan gives none. A shared one counts for all sharers."""
    given = {net.layers[copy.layer].weights_unseen()[copy.blob] for copy in plan}
    return [
        node.name
        for node, layer in zip(net.graph.nodes, net.layers, strict=True)
        if layer.parameter_names and given.isdisjoint(layer.weights_unseen())
    ]


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def mismatch(net: Net, file: PathLike) -> str | None:
    """Why a model is not one of this net, as a sentence; None if it has all parameters of the net.

    Raises:
        WeightsError: the file cannot be read.
    """
    stored, may_miss = _stored_layers(net, file)
    names = {layer.name for layer in stored}
    for blob in net.learnable:
        owner = net.graph.nodes[blob.owner[0]].name
        if owner not in names:
            return f"{os.fspath(file)} has no layer {owner}."
    try:
        plan_copies(net, stored, file, may_miss)
    except WeightsError as error:
        return str(error)
    return None


def _plan_of_file(net: Net, file: PathLike) -> list[Copy]:
    stored, may_miss = _stored_layers(net, file)
    return plan_copies(net, stored, file, may_miss)


def _stored_layers(net: Net, file: PathLike) -> tuple[list[StoredLayer], set[tuple[int, int]]]:
    """A file's layers, and the parameters of the net that it need not have, as `plan_copies` takes
    them: the HDF5 form holds a shared parameter once."""
    if is_hdf5(file):
        return hdf5.stored_layers(file, _names(net)), sharers(net)
    return mapped.stored_layers(file, _names(net)), set()


def sharers(net: Net) -> set[tuple[int, int]]:
    """(layer index, blob index) of all parameters that another layer owns."""
    return {user for blob in net.learnable for user in blob.users[1:]}


def _names(net: Net) -> set[str]:
    return {node.name for node in net.graph.nodes}


def plan_copies(
    net: Net,
    layers: Iterable[StoredLayer],
    file: PathLike,
    may_miss: Iterable[tuple[int, int]] = (),
) -> list[Copy]:
    """List the copies from stored layers to the net's parameters, if all of them fit.

    Args:
        may_miss: (layer index, blob index) of the net's parameters that a layer in the file need
            not have.

    Raises:
        WeightsError: lists all layers that do not fit.
    """
    by_name: dict[str, list[int]] = {}
    for i, node in enumerate(net.graph.nodes):
        by_name.setdefault(node.name, []).append(i)
    found: list[Copy] = []
    misfits: list[Misfit] = []
    layers_here = net.layers
    for layer in layers:
        if layer.name not in by_name:
            detail.info("Ignoring source layer %s", layer.name)
            continue
        same_name = by_name[layer.name]  # a repeated name: the first of the file to the first here
        i = same_name.pop(0) if len(same_name) > 1 else same_name[0]
        targets = net.layer_blobs(i)
        layer = _adapted(layer, layers_here[i])
        optional = {k for j, k in may_miss if j == i}
        if misfit := _misfit(layer, targets, net.graph.nodes[i].type, optional):
            misfits.append(misfit)
        else:
            found += [Copy(i, k, blob) for k, blob in sorted(layer.blobs.items())]
    if misfits:
        raise misfit_error(misfits, file)
    return found


def _adapted(layer: StoredLayer, here: Layer) -> StoredLayer:
    """The stored layer with its parameters in the order and shapes of the net's layer."""
    stored = {k: blob.values for k, blob in layer.blobs.items()}
    adapted = here.adapted_blobs(stored)
    if adapted is stored:
        return layer
    blobs = dict(layer.blobs)
    for k, values in adapted.items():
        if k not in stored:
            blobs[k] = StoredBlob(values)
        elif values is not stored[k]:
            blobs[k] = blobs[k]._replace(values=values, legacy=False)
    return layer._replace(blobs=blobs)


def _misfit(
    layer: StoredLayer, targets: Sequence[Blob], layer_type: str, optional: set[int]
) -> Misfit | None:
    """How a stored layer differs from the net's, or None if it fits.

    Shapes fit if they are equal, or equal at the end to one of the legacy 4-D form.
    """
    wanted = {k: tuple(blob.shape) for k, blob in enumerate(targets)}
    wrong = []
    if wanted.keys() - optional <= layer.blobs.keys() <= wanted.keys():
        wrong = [
            k
            for k, blob in sorted(layer.blobs.items())
            if not fits(blob.values.shape, wanted[k], legacy=blob.legacy)
        ]
        if not wrong:
            return None
    stored = {k: blob.values.shape for k, blob in layer.blobs.items()}
    return Misfit(layer.name, layer_type, layer.type, stored, wanted, wrong)
