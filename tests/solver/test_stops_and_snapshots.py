"""When a run is saved, and what ends it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.training_runs import iterations, weights

from moka.errors import SolverError
from moka.parallel.team import Alone
from moka.report.records import (
    BestSnapshotWritten,
    EarlyStop,
    IterationCompleted,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    TestCompleted,
    TestStarted,
)
from moka.solver.snapshots.state_file import read_state
from moka.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.training_runs import SolverMaker


def test_snapshots_fall_due(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("snapshot: 2 max_iter: 5 snapshot_after_train: true", records=records)
    solver.solve()
    found = [r for r in records if isinstance(r, SnapshotWritten)]
    assert [r.iteration for r in found] == [2, 4, 5]
    assert {name for r in found for name in (r.model_file, r.state_file)} == set(os.listdir())


def test_a_snapshot_that_is_due_at_the_end_is_made_once(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("snapshot: 2 max_iter: 4 snapshot_after_train: true", records=records).solve()
    found = [r for r in records if isinstance(r, SnapshotWritten)]
    assert [r.iteration for r in found] == [2, 4]


def test_a_request_to_stop(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("max_iter: 100 display: 1 snapshot_after_train: true", records=records)

    def listen(record: Record) -> None:
        if isinstance(record, IterationCompleted) and record.iteration == 3:
            solver.requests.stop = True

    solver.listeners.append(listen)
    solver.solve()
    assert solver.iteration == 4
    assert [type(r).__name__ for r in records[-2:]] == ["SnapshotWritten", "SolvingCompleted"]
    end = records[-1]
    assert isinstance(end, SolvingCompleted)
    assert end.stopped_early
    assert Path("snap_iter_4.solverstate").exists()


class Connected(Alone):
    """A team whose only member asks itself; `exchanges` counts how often."""

    is_connected = True

    def __init__(self, after: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.exchanges = 0
        self._after = after

    def gather_numbers(self, *own: float) -> dict[int, tuple[float, ...]]:
        self.exchanges += 1
        told = super().gather_numbers(*own)
        self._after()
        return told


@pytest.mark.parametrize("asked", ["stop", "requeue"])
def test_a_signal_after_the_processes_have_agreed(make_solver: SolverMaker, asked: str) -> None:
    """This process goes on like the others, which do not know of its signal yet."""
    solver = make_solver("max_iter: 100")
    solver.join(Connected(lambda: setattr(solver.requests, asked, True)))
    solver.step(100)
    assert solver.iteration == 1


def test_processes_exchange_numbers_once_an_iteration(make_solver: SolverMaker) -> None:
    solver, team = make_solver("max_iter: 100"), Connected()
    solver.join(team)
    solver.step(1)
    begun = team.exchanges
    solver.step(11)
    assert team.exchanges - begun == begun + 10


def test_a_request_for_a_snapshot(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(records=records)
    solver.requests.save = True
    solver.step(3)
    found = [r for r in records if isinstance(r, SnapshotWritten)]
    assert [r.iteration for r in found] == [1]
    assert solver.iteration == 3


@pytest.mark.parametrize("resumed", [False, True])
def test_a_loss_that_is_no_number(make_solver: SolverMaker, resumed: bool) -> None:
    solver = make_solver("snapshot: 2 base_lr: 1e-30")
    solver.step(2)
    kept = weights(solver)
    files = {name: Path(name).read_bytes() for name in os.listdir()}
    if resumed:
        solver = make_solver()
        solver.restore("snap_iter_2.solverstate")
    # One that no finite loss has followed may be what the divergence comes from.
    said = "last good snapshot is" if resumed else "last snapshot,"
    with torch.no_grad():
        (data,) = (source for _, source in solver.net.sources)
        data()[0].fill_(torch.nan)  # the constant that it hands out each time
    with pytest.raises(
        SolverError, match=rf"loss is nan at iteration 2: .*{said} snap_iter_2\.caf"
    ):
        solver.step(10)
    assert solver.iteration == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), kept, strict=True))
    assert Path("snap_iter_2.replay").exists()
    os.unlink("snap_iter_2.replay")
    assert {name: Path(name).read_bytes() for name in os.listdir()} == files


def test_a_loss_that_is_no_number_before_any_snapshot(make_solver: SolverMaker) -> None:
    solver = make_solver("base_lr: 1e30")
    with pytest.raises(SolverError, match="No snapshot has been made yet"):
        solver.step(10)


def test_a_prefix_that_cannot_be_written_is_refused_before_training(
    make_solver: SolverMaker,
) -> None:
    Path("a_file").touch()
    with pytest.raises(SolverError, match="'a_file/snap': Not a directory"):
        make_solver('snapshot: 2 snapshot_prefix: "a_file/snap"')
    make_solver('snapshot_prefix: "a_file/snap"')  # no snapshots are asked for


BEST = 'snapshot_best: "loss" test_iter: 1 test_interval: 2 test_initialization: true'


def test_the_best_snapshot(make_solver: SolverMaker) -> None:
    """The loss of this net falls all the time."""
    records: list[Record] = []
    solver = make_solver(f"{BEST} max_iter: 4 ema_decay: 0.5", records=records)
    solver.solve()
    tests = [r.outputs[0].value for r in records if isinstance(r, TestCompleted)]
    found = [r for r in records if isinstance(r, BestSnapshotWritten)]
    assert found == [
        BestSnapshotWritten(t, "loss", value, "snap_best.caffemodel")
        for t, value in zip((0, 2, 4), tests, strict=True)
    ]
    names = ("snap_best.caffemodel", "snap_best.ema.caffemodel", "snap_best.solverstate")
    assert sorted(os.listdir()) == sorted(names)
    state = read_state("snap_best.solverstate")
    assert (state.iter, state.learned_net) == (4, "snap_best.caffemodel")
    assert state.run_state.averaged_net == "snap_best.ema.caffemodel"
    fresh = make_solver()
    load_weights(fresh.net, ["snap_best.caffemodel"])
    for a, b in zip(weights(fresh), weights(solver), strict=True):
        assert torch.equal(a, b)


def test_what_is_worse_is_not_kept(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(f"{BEST} snapshot_best_is: HIGHER early_stop: 3", records=records)
    solver.step(100)
    assert [r.iteration for r in records if isinstance(r, BestSnapshotWritten)] == [0]
    assert read_state("snap_best.solverstate").iter == 0
    assert solver.iteration == 6
    first = next(r.outputs[0].value for r in records if isinstance(r, TestCompleted))
    assert records[-1] == EarlyStop(6, 3, "loss", first, 0)


def test_an_early_stop_ends_a_run_in_order(make_solver: SolverMaker) -> None:
    text = f"{BEST} snapshot_best_is: HIGHER max_iter: 100 snapshot_after_train: true"
    records: list[Record] = []
    make_solver(f"{text} early_stop: 2", records=records).solve()
    names = [type(r).__name__ for r in records[-3:]]
    assert names == ["EarlyStop", "SnapshotWritten", "SolvingCompleted"]
    end = records[-1]
    assert isinstance(end, SolvingCompleted)
    assert end.stopped_early
    # Resumed as it was it stops at once; with more patience it goes on where it was.
    del records[:]
    solver = make_solver(f"{text} early_stop: 2", records=records)
    solver.solve("snap_iter_4.solverstate")
    assert solver.iteration == 4
    assert not iterations(records)
    solver = make_solver(f"{text} early_stop: 3", records=records)
    solver.solve("snap_iter_4.solverstate")
    assert solver.iteration == 6
    assert [r.iteration for r in records if isinstance(r, TestStarted)] == [6]


def test_a_best_output_that_is_not_there_is_refused_before_training(
    make_solver: SolverMaker,
) -> None:
    with pytest.raises(SolverError, match=r'no test net has an output lose .*Did you mean "loss"'):
        make_solver('snapshot_best: "lose" test_iter: 1 test_interval: 2')


def test_a_best_snapshot_needs_a_prefix_that_can_be_written(make_solver: SolverMaker) -> None:
    Path("a_file").touch()
    with pytest.raises(SolverError, match="'a_file/snap': Not a directory"):
        make_solver(f'{BEST} snapshot_prefix: "a_file/snap"')
