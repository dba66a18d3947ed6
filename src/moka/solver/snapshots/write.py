"""Writing a run's snapshots: the model (.caffemodel) and what resuming needs (.solverstate).

Both are BVLC Caffe's files, binary or HDF5. Each is complete or not there; the state is written
last, so a state's model is always complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from moka.errors import SolverError
from moka.files import check_writable
from moka.net import Net
from moka.schema.caffe_pb2 import RankState, SolverParameter, SolverState
from moka.solver.averaged_weights import AveragedWeights
from moka.solver.snapshots.names import averaged_name, best_names, file_names, remove_older
from moka.solver.snapshots.state_file import write_state
from moka.solver.stateful import Stateful
from moka.weights import save_hdf5, save_weights


def check_prefix(prefix: str) -> None:
    """Raises SolverError unless files can be made where the snapshots go."""
    try:
        check_writable(prefix)
    except OSError as error:
        start = f" Relative names start at the current directory, {os.getcwd()}."
        raise SolverError(
            f"Cannot write to snapshot prefix '{prefix}': {error.strerror}.",
            advice="Make sure that the directory exists and is writable."
            + start * (not os.path.isabs(prefix)),
        ) from None


class SnapshotFiles(NamedTuple):
    """The files of one snapshot; `averaged` only if averaged weights are kept."""

    model: str
    state: str
    averaged: str | None


class SnapshotWriter:
    """Writes a run's snapshots.

    Args:
        config: the solver's message, its snapshot prefix resolved.
        net: the net that is trained.
        average: averaged weights, None if none are kept.
        parts: everything that has a state, the largest first.
    """

    def __init__(
        self,
        config: SolverParameter,
        net: Net,
        average: AveragedWeights | None,
        parts: Sequence[Stateful],
    ) -> None:
        self._config = config
        self._net = net
        self._average = average
        self._parts = parts

    def write(self, other_ranks: Sequence[RankState] = ()) -> SnapshotFiles:
        """Write model, averaged model if there is one, and last the state; then delete snapshots
        beyond `snapshot_keep`.

        Args:
            other_ranks: where other processes stand that train this model.

        Raises:
            SolverError: the disk is full, or the like; older snapshots are untouched.
        """
        config, state = self._config, self._state(other_ranks)
        model, state_file = file_names(config.snapshot_prefix, state.iter, hdf5=self._hdf5)
        files = self._name_models(state, model, state_file)
        self._write(state, model, averaged_name(model), state_file)
        if config.snapshot_keep:
            remove_older(config.snapshot_prefix, state.iter, config.snapshot_keep)
        return files

    def write_best(self, other_ranks: Sequence[RankState] = ()) -> SnapshotFiles:
        """Replace the snapshot of the best test.

        It is complete aside before it takes the names; the old state goes first and the new one
        comes last, so that no state is ever beside another's model.

        Args, Raises: as `write`.
        """
        state = self._state(other_ranks)
        model, state_file = best_names(self._config.snapshot_prefix, hdf5=self._hdf5)
        files = self._name_models(state, model, state_file)
        names = [model, averaged_name(model), state_file]
        aside = [f"{name}.new" for name in names]
        self._write(state, *aside)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(state_file)
        for written, name in zip(aside, names, strict=True):
            with contextlib.suppress(FileNotFoundError):  # averages need not be kept
                os.replace(written, name)
        return files

    @property
    def _hdf5(self) -> bool:
        return self._config.snapshot_format == SolverParameter.HDF5

    @property
    def _has_average(self) -> bool:
        return self._average is not None and self._average.started

    def _state(self, other_ranks: Sequence[RankState]) -> SolverState:
        """The state message, without the names of the model files."""
        first, *others = self._parts
        state = first.state()
        for part in others:
            state.MergeFrom(part.state())
        state.run_state.other_rank.extend(other_ranks)
        return state

    def _name_models(self, state: SolverState, model: str, state_file: str) -> SnapshotFiles:
        """Write the names of the model files into the state; returns all names."""
        averaged = averaged_name(model) if self._has_average else None
        state.learned_net = model
        if averaged:
            state.run_state.averaged_net = averaged
        return SnapshotFiles(model, state_file, averaged)

    def _write(
        self, state: SolverState, model_file: str, averaged_file: str, state_file: str
    ) -> None:
        save = save_hdf5 if self._hdf5 else save_weights
        written: list[str] = []
        try:
            save(self._net, model_file, with_diffs=self._config.snapshot_diff)
            written.append(model_file)
            if self._average and self._has_average:
                with self._average.in_place():
                    save(self._net, averaged_file)
                written.append(averaged_file)
            write_state(state_file, state, hdf5=self._hdf5)
        except OSError as error:
            if not os.path.exists(state_file):
                for file in written:
                    with contextlib.suppress(OSError):
                        os.unlink(file)
            raise SolverError(
                f"the snapshot of iteration {state.iter} could not be written: {error.strerror}.",
                file=state.learned_net,
                advice="Earlier snapshots are complete; make room and resume from the last one.",
            ) from None
