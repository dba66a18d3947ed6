"""`caffe check`: every net among files and folders, with its weights; and all other files there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from functools import cache
from typing import Concatenate, ParamSpec

from moka.checks.exports import need_packages
from moka.checks.files import File, find_beside, find_files, recognize_file
from moka.checks.finding import Finding
from moka.checks.nets import check_net
from moka.checks.pairs import family, pair
from moka.errors import MokaError
from moka.files import local_path
from moka.net import read_net
from moka.net.outline import silence
from moka.schema import UnknownFields, unknown_fields_are
from moka.solver.config import check_solver, read_solver
from moka.types import PathLike
from moka.weights.shapes import stored_shapes

P = ParamSpec("P")


def check(
    *paths: PathLike, unknown_fields: UnknownFields = "error", export: bool = False
) -> list[Finding]:
    """Check models: whether each net can be built and its weights fit, and what it is made of.

    Neither data nor memory for parameters is needed, unless models are exported. Layers of the
    user's own Python modules run, as they do when a net is loaded.

    Args:
        paths: nets, weights, and folders, which are searched to the bottom. Weights belong to the
            net in their folder whose name or layers are theirs. A net that is named alone is
            checked with the weights beside it, weights with the net beside them.
        unknown_fields: "warn" skips fields of prototxts that no known fork of Caffe has.
        export: export each net that has weights, to a file that is thrown away, and compare what
            ONNX Runtime computes.

    Returns:
        A finding for each net and its weights, and for each other file of a model's.

    Raises:
        UsageError: a path does not exist.
        MokaError: a package that exporting needs is not installed.
    """
    with unknown_fields_are(unknown_fields):
        return list(findings(paths, export=export))


def findings(paths: Iterable[PathLike], *, export: bool = False) -> Iterator[Finding]:
    """`check`, one by one. Nothing that a file holds ends it."""
    if export:
        need_packages()
    files = list(find_files(paths))
    named = {local_path(os.fspath(path)) for path in paths}
    near = _with_neighbors(files, named)
    weights_of: defaultdict[str, list[str]] = defaultdict(list)
    alone: set[str] = set()
    for weights, nets in _partners(files, named, near).items():
        for net in nets:
            weights_of[net].append(weights)
        if not nets:
            alone.add(weights)
    relatives: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for file in near:
        if file.kind == "net":
            relatives[family(file.path)].append(file.path)
    known = {file.path for file in files}
    beside = [net for net in weights_of if net not in known]
    for file in (*files, *(File(net, "net") for net in beside)):
        if file.kind == "net":
            twins = relatives[family(file.path)]
            yield from _safely(check_net, file.path, weights_of[file.path], twins, export=export)
        elif file.kind == "solver":
            yield from _safely(_solver, file.path)
        elif file.kind == "other":
            yield Finding(
                file.path,
                "other",
                obstacle=f"{file.path}: {file.fact}. {file.advice}".rstrip()
                if file.is_fault
                else None,
                notes=() if file.is_fault else (f"{file.fact[:1].upper()}{file.fact[1:]}.",),
            )
        elif file.path in alone:
            yield from _safely(_alone, file.path)


def _safely(
    look: Callable[Concatenate[str, P], Iterable[Finding]],
    path: str,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Iterator[Finding]:
    """Run a check of a path; its warnings become notes, and any exception becomes an obstacle."""
    try:
        with silence() as warnings:
            found = list(look(path, *args, **kwargs))
        for each in found:
            yield replace(each, notes=(*dict.fromkeys(warnings), *each.notes))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what users' layers raise
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        yield Finding(path, "net", obstacle=f"{path}: {type(error).__name__}: {error}{notes}")


def _with_neighbors(files: Sequence[File], named: Set[str]) -> list[File]:
    """The files, and the nets and weights beside those that are named alone."""
    near = {os.path.normpath(file.path): file for file in files}
    for file in files:
        if file.path in named and file.kind in ("net", "weights"):
            for neighbor in find_beside(file.path):
                near.setdefault(os.path.normpath(neighbor.path), neighbor)
    return list(near.values())


def _partners(files: Sequence[File], named: Set[str], near: Sequence[File]) -> dict[str, list[str]]:
    """The nets of each file of weights; of files that are near only those that these have."""
    nets = {file.path for file in files if file.kind == "net"}
    weights = {file.path for file in files if file.kind == "weights"}
    layers_of = cache(_layer_names)
    if len(weights) == len(nets) == 1 and named >= nets | weights:
        return {file: list(nets) for file in weights}
    if weights and nets and named >= nets | weights:
        return pair(sorted(nets), sorted(weights), layers_of)
    places = _by_folder(file.path for file in near if file.kind == "net")
    found: dict[str, list[str]] = {}
    wanted = (file.path for file in near if file.kind == "weights")
    for folder, group in _by_folder(wanted).items():
        found |= pair(_nearest(folder, places), group, layers_of)
    return {
        file: mine
        for file, theirs in found.items()
        if (mine := theirs if file in weights else [net for net in theirs if net in nets])
        or file in weights
    }


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[os.path.dirname(os.path.abspath(path))].append(path)
    return dict(found)


def _nearest(folder: str, places: dict[str, list[str]]) -> list[str]:
    """The nets in a folder, or in the nearest one around it that has any."""
    while folder not in places:
        above = os.path.dirname(folder)
        if above == folder:
            return []
        folder = above
    return places[folder]


def _layer_names(path: str) -> frozenset[str]:
    """The names of a net's layers, or of the layers with parameters in a file of weights."""
    try:
        with silence():
            if recognize_file(path).kind == "net":
                return frozenset(layer.name for layer in read_net(path)[0].layer)
            return frozenset(layer.name for layer in stored_shapes(path) if layer.blobs)
    except (MokaError, OSError):  # which the check of the file itself tells
        return frozenset()


def _solver(path: str) -> Iterator[Finding]:
    try:
        config = read_solver(path).message
        check_solver(config, path)
    except MokaError as error:
        yield Finding(path, "solver", obstacle=str(error))
        return
    net = config.net or config.train_net
    beside = os.path.join(os.path.dirname(path), os.path.basename(net))
    notes = [f"Its net is {net}."] if net else []
    if net and not (os.path.exists(local_path(net)) or os.path.exists(beside)):
        notes = [f"Its net {net} is not here."]
    yield Finding(path, "solver", notes=tuple(notes))


def _alone(path: str) -> Iterator[Finding]:
    try:
        stored = stored_shapes(path)
    except MokaError as error:
        yield Finding(path, "weights", obstacle=str(error))
        return
    count = sum(blob.values.size for layer in stored for blob in layer.blobs.values())
    layers = sum(bool(layer.blobs) for layer in stored)
    note = f"No net beside it has its layers: {layers} with parameters."
    yield Finding(path, "weights", parameters=count, notes=(note,))
