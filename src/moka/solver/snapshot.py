"""A run's snapshots: the model (.caffemodel) and what resuming needs (.solverstate).

Both are BVLC Caffe's files, binary or HDF5. Each is complete or not there; the state is written
last, so a state's model is always complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from moka.errors import SolverError
from moka.net import Net
from moka.schema import blobproto, caffe_pb2
from moka.schema.text import PathLike
from moka.solver.state_file import read_state, write_state
from moka.weights import save_hdf5, save_weights

log = logging.getLogger("moka")
_STATE_NAME = re.compile(r"(.+)_iter_(\d+)\.solverstate(\.h5)?", re.DOTALL)


def file_names(prefix: str, iteration: int, *, hdf5: bool = False) -> tuple[str, str]:
    """Names of the model and of the state."""
    stem, end = f"{prefix}_iter_{iteration}", ".h5" if hdf5 else ""
    return f"{stem}.caffemodel{end}", f"{stem}.solverstate{end}"


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
    """The state of the newest snapshot that can be read and whose model is there, or None."""
    for _, _, state in reversed(snapshots(prefix)):
        try:
            read_state(state)
        except SolverError as error:
            log.warning("%s The snapshot before it is taken.", error)
        else:
            return state
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
        for file in (state, model):
            with contextlib.suppress(OSError):  # a file that cannot go does no harm
                os.unlink(file)


def snapshot_prefix(config: caffe_pb2.SolverParameter, file: PathLike) -> str:
    """Where snapshots go: as given, or the solver file's own name; a folder gets its stem."""
    stem = Path(file).with_suffix("")
    prefix = config.snapshot_prefix or str(stem)
    return str(Path(prefix) / stem.name) if os.path.isdir(prefix) else prefix


def check_writable(prefix: str) -> None:
    """Raises SolverError unless files can be made where the snapshots go."""
    folder = os.path.dirname(prefix) or "."
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".moka-"):
            pass
    except OSError as error:
        raise SolverError(
            f"Cannot write to snapshot prefix '{prefix}': {error.strerror}.",
            advice="Make sure that the directory exists and is writable.",
        ) from None


def write_snapshot(
    net: Net,
    history: Iterable[Tensor],
    *,
    prefix: str,
    iteration: int,
    current_step: int,
    with_diffs: bool,
    hdf5: bool,
    run_state: caffe_pb2.RunState,
) -> tuple[str, str]:
    """Write model and state; returns their names.

    Args:
        net: the net that is trained.
        hdf5: in HDF5 form.
        run_state: see `moka.solver.run_state`.

    Raises:
        SolverError: the disk is full, or the like; older snapshots are untouched.
    """
    model_file, state_file = file_names(prefix, iteration, hdf5=hdf5)
    state = caffe_pb2.SolverState(iter=iteration, learned_net=model_file, current_step=current_step)
    for tensor in history:
        state.history.append(blobproto.from_array(tensor.detach().cpu().numpy()))
    state.run_state.CopyFrom(run_state)
    model_written = False
    try:
        (save_hdf5 if hdf5 else save_weights)(net, model_file, with_diffs=with_diffs)
        model_written = True
        write_state(state_file, state, hdf5=hdf5)
    except OSError as error:
        if model_written and not os.path.exists(state_file):
            with contextlib.suppress(OSError):
                os.unlink(model_file)
        raise SolverError(
            f"the snapshot of iteration {iteration} could not be written: {error.strerror}.",
            file=model_file,
            advice="Earlier snapshots are complete; make room and resume from the last one.",
        ) from None
    return model_file, state_file


def model_of(state: caffe_pb2.SolverState, state_file: PathLike) -> str:
    """The model a state belongs to: as written there, or if it has moved, beside the state."""
    beside = Path(state_file).parent / Path(state.learned_net).name
    if not os.path.exists(state.learned_net) and beside.exists():
        return str(beside)
    return state.learned_net


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
