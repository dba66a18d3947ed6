"""Going on from a snapshot: reading one, and choosing the newest."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from moka.errors import MokaError, SolverError
from moka.hdf5 import is_hdf5
from moka.net import Net
from moka.schema.caffe_pb2 import SolverState
from moka.solver.averaged_weights import AveragedWeights
from moka.solver.rules import Rule
from moka.solver.snapshots.names import averaged_of, model_of, state_before
from moka.solver.snapshots.newest import newest_state
from moka.solver.snapshots.state_file import read_state
from moka.solver.stateful import Stateful
from moka.types import PathLike
from moka.weights import load_weights, mismatch

log = logging.getLogger("moka.detail")


class SnapshotReader:
    """Puts a run where a snapshot stands.

    Args:
        net: the net that is trained.
        rule: its update rule, one of the parts.
        average: averaged weights, None if none are kept.
        parts: everything that has a state.
    """

    def __init__(
        self,
        net: Net,
        rule: Rule,
        average: AveragedWeights | None,
        parts: Sequence[Stateful],
    ) -> None:
        self._net = net
        self._rule = rule
        self._average = average
        self._parts = parts

    def restore(self, state_file: str) -> str:
        """Go on from a snapshot; returns the file of its model.

        Raises:
            SolverError, WeightsError: files that are missing or belong to another run.
        """
        with _offering_the_one_before(state_file):
            state = read_state(state_file)
        model_file = model_of(state, state_file)
        with _naming(state_file):
            self._rule.check_type(state)
        with _offering_the_one_before(state_file):
            load_weights(self._net, [model_file])
        if not is_hdf5(state_file):
            log.info("SGDSolver: restoring history")
        if self._average:
            self._average.load(self._net, averaged_of(state, state_file))
        with _naming(state_file):
            for part in self._parts:
                part.load_state(state)
        return model_file

    def newest(self, prefix: str, passing_over: Mapping[str, int]) -> str | None:
        """The state of the newest snapshot of this net under a prefix, or None.

        Args:
            passing_over: as for `newest_state`.

        Raises:
            SolverError: there are snapshots, but none that can be used.
        """
        return newest_state(prefix, self._why_of_another_net, passing_over)

    def _why_of_another_net(self, state: SolverState, state_file: str) -> str | None:
        with _naming(state_file):
            self._rule.check_type(state)
        if why := mismatch(self._net, model_of(state, state_file)):
            return why
        try:
            self._rule.fitting_histories(state)
        except SolverError as error:
            return error.message
        return None


@contextmanager
def _naming(file: PathLike) -> Iterator[None]:
    """Add this file's name to errors that the block raises."""
    try:
        yield
    except MokaError as error:
        raise error.at(file=file) from None


@contextmanager
def _offering_the_one_before(state_file: str) -> Iterator[None]:
    """Suggest the snapshot before this one in errors that the block raises."""
    try:
        yield
    except MokaError as error:
        if before := state_before(state_file):
            error.advice = f"{error.advice or ''} The snapshot before it is {before}.".strip()
        raise
