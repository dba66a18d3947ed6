"""A run's snapshots: the model (.caffemodel) and what resuming needs (.solverstate).

Both are BVLC Caffe's files, binary or HDF5. Each is complete or not there; the state is written
last, so a state's model is always complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moka.errors import SolverError
from moka.files import check_writable
from moka.net import Net
from moka.schema import blobproto, caffe_pb2
from moka.solver.ema import AveragedWeights
from moka.solver.snapshots.state_file import read_state, write_state
from moka.types import PathLike
from moka.weights import save_hdf5, save_weights

log = logging.getLogger("moka")
_STATE_NAME = re.compile(r"(.+)_iter_(\d+)\.solverstate(\.h5)?", re.DOTALL)


def file_names(prefix: str, iteration: int, *, hdf5: bool = False) -> tuple[str, str]:
    """Names of the model and of the state."""
    return _names(f"{prefix}_iter_{iteration}", hdf5)


def best_names(prefix: str, *, hdf5: bool = False) -> tuple[str, str]:
    """Names of the model and of the state of the best test."""
    return _names(f"{prefix}_best", hdf5)


def _names(stem: str, hdf5: bool) -> tuple[str, str]:
    end = ".h5" if hdf5 else ""
    return f"{stem}.caffemodel{end}", f"{stem}.solverstate{end}"


def averaged_name(model_file: str) -> str:
    """Name of the averaged weights that lie beside a model."""
    stem, kind, end = model_file.rpartition(".caffemodel")
    return f"{stem}.ema{kind}{end}"


def snapshots(prefix: str) -> list[tuple[int, str, str]]:
    """(iteration, model, state) of each snapshot that has both files, the oldest first."""
    found: list[tuple[int, str, str]] = []
    folder = Path(prefix).parent
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _STATE_NAME.fullmatch(path.name)
        if match and match[1] == Path(prefix).name:
            iteration = int(match[2])
            model, state = file_names(prefix, iteration, hdf5=bool(match[3]))
            if os.path.exists(model):
                found.append((iteration, model, state))
    return sorted(found)


def latest_state(prefix: str) -> str | None:
    """The state of the newest snapshot that can be read and whose model is there, or None.

    Raises:
        SolverError: there are snapshots, but none that can be read; to start afresh would write
            over them.
    """
    damaged: list[SolverError] = []
    for _, _, state in reversed(snapshots(prefix)):
        try:
            read_state(state)
        except SolverError as error:
            damaged.append(error)
        else:
            for failure in damaged:
                log.warning("%s The snapshot before it is taken.", failure)
            return state
    if damaged:
        raise SolverError(
            f"none of the snapshots under {prefix} can be read; the newest: {damaged[0]}",
            advice="Move them away to start afresh, or choose another snapshot_prefix.",
        )
    return None


def state_before(state_file: PathLike) -> str | None:
    """The state of the snapshot before a state's, going by their names, or None."""
    if match := _STATE_NAME.fullmatch(os.fspath(state_file)):
        older = [state for i, _, state in snapshots(match[1]) if i < int(match[2])]
        return older[-1] if older else None
    return None


def remove_older(prefix: str, iteration: int, keep: int) -> None:
    """Remove the snapshots before `iteration`, but for the last ones, so that `keep` remain.

    A state goes before its model, so that no state is ever without one.
    """
    older = [files for i, *files in snapshots(prefix) if i < iteration]
    for model, state in older[: max(0, len(older) - (keep - 1))]:
        for file in (state, model, averaged_name(model)):
            with contextlib.suppress(OSError):  # a file that cannot go does no harm
                os.unlink(file)


def snapshot_prefix(config: caffe_pb2.SolverParameter, file: PathLike) -> str:
    """Where snapshots go: as given, or the solver file's own name; a folder gets its stem."""
    stem = Path(file).with_suffix("")
    prefix = config.snapshot_prefix or str(stem)
    return str(Path(prefix) / stem.name) if os.path.isdir(prefix) else prefix


def check_prefix(prefix: str) -> None:
    """Raises SolverError unless files can be made where the snapshots go."""
    try:
        check_writable(prefix)
    except OSError as error:
        raise SolverError(
            f"Cannot write to snapshot prefix '{prefix}': {error.strerror}.",
            advice="Make sure that the directory exists and is writable.",
        ) from None


@dataclass(frozen=True)
class Content:
    """What a snapshot is made of.

    Attributes:
        net: the net that is trained.
        state: complete but for the names of the models.
        average: averaged weights, if any are kept.
        with_diffs: whether the model holds gradients too.
        hdf5: in HDF5 form.
    """

    net: Net
    state: caffe_pb2.SolverState
    average: AveragedWeights | None = None
    with_diffs: bool = False
    hdf5: bool = False

    @property
    def has_average(self) -> bool:
        return self.average is not None and self.average.started


def write_snapshot(content: Content, model_file: str, state_file: str) -> None:
    """Write model, averaged model if there is one, and last the state.

    Raises:
        SolverError: the disk is full, or the like; older snapshots are untouched.
    """
    _name_models(content, model_file)
    _write(content, model_file, averaged_name(model_file), state_file)


def write_best(content: Content, model_file: str, state_file: str) -> None:
    """Write a snapshot in the place of an older one of the same names.

    It is complete aside before it takes them; the old state goes first and the new one comes last,
    so that no state is ever beside another's model.

    Raises:
        SolverError: as `write_snapshot`.
    """
    _name_models(content, model_file)
    names = [model_file, averaged_name(model_file), state_file]
    aside = [f"{name}.new" for name in names]
    _write(content, *aside)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state_file)
    for written, name in zip(aside, names, strict=True):
        with contextlib.suppress(FileNotFoundError):  # of averages, which need not be kept
            os.replace(written, name)


def _name_models(content: Content, model_file: str) -> None:
    content.state.learned_net = model_file
    if content.has_average:
        content.state.run_state.averaged_net = averaged_name(model_file)


def _write(content: Content, model_file: str, averaged_file: str, state_file: str) -> None:
    save = save_hdf5 if content.hdf5 else save_weights
    written: list[str] = []
    try:
        save(content.net, model_file, with_diffs=content.with_diffs)
        written.append(model_file)
        if content.average and content.has_average:
            with content.average.in_place():
                save(content.net, averaged_file)
            written.append(averaged_file)
        write_state(state_file, content.state, hdf5=content.hdf5)
    except OSError as error:
        if not os.path.exists(state_file):
            for file in written:
                with contextlib.suppress(OSError):
                    os.unlink(file)
        raise SolverError(
            f"the snapshot of iteration {content.state.iter} could not be written:"
            f" {error.strerror}.",
            file=content.state.learned_net,
            advice="Earlier snapshots are complete; make room and resume from the last one.",
        ) from None


def model_of(state: caffe_pb2.SolverState, state_file: PathLike) -> str:
    """The model a state belongs to: the file of that name beside it, else as written there."""
    return _found(state.learned_net, state_file)


def averaged_of(state: caffe_pb2.SolverState, state_file: PathLike) -> str | None:
    """The averaged weights a state belongs to, found likewise; None if it has none."""
    name = state.run_state.averaged_net
    return _found(name, state_file) if name else None


def _found(name: str, state_file: PathLike) -> str:
    beside = Path(state_file).parent / Path(name).name
    return str(beside) if beside.exists() else name


def load_history(state: caffe_pb2.SolverState, history: Sequence[Tensor], file: PathLike) -> None:
    """Copy the stored histories into the solver's.

    Raises:
        SolverError: another number of histories, or other shapes.
    """
    if len(state.history) != len(history):
        raise SolverError(
            f"Incorrect length of history blobs: the file has {len(state.history)}, the solver"
            f" {len(history)}.",
            file=file,
            advice="The state belongs to another net or solver type.",
        )
    arrays = [blobproto.to_array(blob) for blob in state.history]
    for i, (array, tensor) in enumerate(zip(arrays, history, strict=True)):
        if array.size != tensor.numel():
            raise SolverError(
                f"history {i} has shape {array.shape}, the solver's has {tuple(tensor.shape)}.",
                file=file,
            )
    for array, tensor in zip(arrays, history, strict=True):
        tensor.copy_(torch.from_numpy(array).view(tensor.shape))
