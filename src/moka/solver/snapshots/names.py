"""The files of a run's snapshots: how they are called, found and removed."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path, PureWindowsPath

from moka.schema.caffe_pb2 import SolverState
from moka.types import PathLike

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
    """(iteration, model, state) of each snapshot that has both files, by iteration."""
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


def state_before(state_file: PathLike) -> str | None:
    """The state of the snapshot before another one, going by their iterations, or None."""
    if match := _STATE_NAME.fullmatch(os.fspath(state_file)):
        older = [state for i, _, state in snapshots(match[1]) if i < int(match[2])]
        return older[-1] if older else None
    return None


def remove_older(prefix: str, iteration: int, keep: int) -> None:
    """Keep the newest `keep` snapshots up to `iteration`, which is one; delete older ones.

    A state is deleted before its model, so that no state is ever without one.
    """
    older = [files for i, *files in snapshots(prefix) if i < iteration]
    for model, state in older[: max(0, len(older) - (keep - 1))]:
        for file in (state, model, averaged_name(model)):
            with contextlib.suppress(OSError):  # a file that stays does no harm
                os.unlink(file)


def model_of(state: SolverState, state_file: PathLike) -> str:
    """The model of a state: the file that the state names, in the state's folder if it is there."""
    return _found(state.learned_net, state_file)


def averaged_of(state: SolverState, state_file: PathLike) -> str | None:
    """The averaged weights of a state, found as `model_of` finds the model; None if it has none."""
    name = state.run_state.averaged_net
    return _found(name, state_file) if name else None


def _found(name: str, state_file: PathLike) -> str:
    beside = Path(state_file).parent / PureWindowsPath(name).name  # which knows both kinds of slash
    return str(beside) if beside.exists() else name
