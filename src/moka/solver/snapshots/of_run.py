"""The snapshots of a run, which all its processes make and take up together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from moka.net import Net
from moka.parallel.team import Alone, Team
from moka.parallel.together import Together
from moka.report.records import BestSnapshotWritten, Record, SnapshotWritten
from moka.schema.caffe_pb2 import RankState, SolverParameter
from moka.solver.averaged_weights import AveragedWeights
from moka.solver.faults.divergence import Guard
from moka.solver.progress import Progress
from moka.solver.rules import Rule
from moka.solver.snapshots.names import file_names
from moka.solver.snapshots.newest import NOTHING
from moka.solver.snapshots.position import Position
from moka.solver.snapshots.read import SnapshotReader
from moka.solver.snapshots.write import SnapshotFiles, SnapshotWriter
from moka.solver.stateful import Stateful


class Snapshots:
    """Writes a run's snapshots and puts it where one stands.

    The first process writes and announces; the others tell it where they are.

    Args:
        config: the solver's message, its snapshot prefix resolved.
        nets: the net that is trained, then those it is tested with.
        rule, progress: parts of the run that have a state.
        parts: the other parts but the processes' positions.
        average: averaged weights, None if none are kept.
        guard: is told which snapshots there are.
        team: the processes that train the model.
        together: what is done because of other processes.
        announce: tells the listeners.

    Attributes:
        team: as given.
    """

    def __init__(
        self,
        config: SolverParameter,
        nets: Sequence[Net],
        rule: Rule,
        progress: Progress,
        parts: Sequence[Stateful],
        average: AveragedWeights | None,
        guard: Guard,
        team: Team,
        together: Together,
        announce: Callable[[Record], object],
    ) -> None:
        self.team = team
        self._prefix = config.snapshot_prefix
        self._rule, self._progress, self._guard = rule, progress, guard
        self._together = together
        self._announce = announce
        self._position = Position(nets, team.rank, team.size)
        all_parts: list[Stateful] = [rule, progress, self._position, *parts]
        self._writer = SnapshotWriter(config, nets[0], average, all_parts)
        self._reader = SnapshotReader(nets[0], rule, average, all_parts)

    def write(self) -> tuple[str, str]:
        """Write model and state, at the call of one process unless parameters are divided; returns
        their names.

        Raises:
            SolverError: a parameter is no longer finite (nothing is written), or the disk is full.
        """
        self._check_parameters(Alone())
        if not self._together.is_sharded:
            return self._write()
        self.write_together()
        return file_names(self._prefix, self._progress.iteration)

    def write_together(self) -> None:
        """Write, in the first process, a snapshot from which all processes can resume.

        Raises:
            SolverError: as `write`.
        """
        self._with_all(self._write)

    def write_best(self) -> None:
        """As `write_together`, in place of the snapshot of the best test before."""
        self._with_all(self._write_best)

    def newest(self, passing_over: Mapping[str, int] = NOTHING) -> str | None:
        """The state of the newest snapshot of this net under the prefix, or None.

        Args:
            passing_over: state files of other runs, as `written_snapshots` finds them.

        Raises:
            SolverError: there are snapshots, but none that can be used.
        """
        return self._reader.newest(self._prefix, passing_over)

    def restore(self, state_file: str) -> None:
        """Go on from a snapshot: BVLC Caffe's, or ours, which also knows where the data was.

        Raises:
            SolverError, WeightsError: files that are missing or belong to another run.
        """
        with self._together.whole():
            model_file = self._reader.restore(state_file)
            self._together.take_over([p.parameter for p in self._rule.params])
        self._guard.resumed_from(model_file)

    def _with_all(self, write: Callable[[Sequence[RankState]], object]) -> None:
        self._check_parameters(self.team)
        others = self._position.of_others(self.team)
        with self._together.whole(), self._rule.gathering():
            if self.team.is_first:
                write(others)

    def _check_parameters(self, team: Team) -> None:
        weights = [p.values for p in self._rule.params]
        self._guard.check_parameters(weights, self._progress.iteration, self._progress.rate, team)

    def _write(self, others: Sequence[RankState] = ()) -> tuple[str, str]:
        files = self._note(self._writer.write(others))
        self._announce(SnapshotWritten(self._progress.iteration, *files))
        return files.model, files.state

    def _write_best(self, others: Sequence[RankState]) -> None:
        files = self._note(self._writer.write_best(others))
        if best := self._progress.best:
            found = self._progress.iteration, best.output, best.value, files.model
            self._announce(BestSnapshotWritten(*found))

    def _note(self, files: SnapshotFiles) -> SnapshotFiles:
        self._guard.last_snapshot = files.model
        return files
