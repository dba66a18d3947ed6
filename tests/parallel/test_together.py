"""Two real processes train one model: what they decide alike, and what becomes of one that stops.

Each scenario is a function that both processes run; what it returns is compared afterwards.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import run_together
from tests.training_runs import solver_message

import caffe
from moka.errors import DataError, SolverError
from moka.parallel.join import join_team
from moka.report.records import EarlyStop, IterationCompleted, Record, TestCompleted
from moka.schema import format_text
from moka.solver.config import read_solver
from moka.solver.solver import Solver

pytestmark = pytest.mark.usefixtures("_folder")


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_solver(text: str, net: str = "linear") -> None:
    message = solver_message(text, net)
    message.max_iter = message.max_iter or 8
    Path("solver.prototxt").write_text(format_text(message))


def together(work: Callable[..., Any], *args: Any) -> list[Any]:
    return run_together(work, *args, uid=caffe.NCCL.new_uid(), patience_s=30)


def member(
    rank: int, count: int, uid: bytes, *, layer_by_layer: bool = False
) -> tuple[caffe.SGDSolver, list[Record]]:
    """The solver of one process, connected, as pycaffe's programs do it; and its records."""
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    solver = caffe.get_solver("solver.prototxt")
    records: list[Record] = []
    solver._solver.listeners.append(records.append)
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if layer_by_layer:
        solver.net.after_backward(nccl)
    return solver, records


def weights(solver: caffe.SGDSolver) -> list[float]:
    return [
        v for blobs in solver.net.params.values() for b in blobs for v in b.data.ravel().tolist()
    ]


def before_iteration(solver: caffe.SGDSolver, call: Callable[[int], object]) -> None:
    solver.add_callback(lambda: call(solver.iter), lambda: None)


# --- steps that are not finite ------------------------------------------------------------------


def spoil_data(rank: int, count: int, uid: bytes, spoilt_rank: int, at: int) -> Any:
    """One process's data are NaN in the last pass of one iteration; the net's weights after four
    iterations, or the error."""
    solver, _ = member(rank, count, uid)
    x = solver.net.blobs["x"]

    def spoil() -> None:
        if (rank, solver.iter) == (spoilt_rank, at):
            x.data[...] = float("nan")

    def begin(iteration: int) -> None:
        x.data[...] = 0.5 + rank
        if solver.param.iter_size == 1:
            spoil()

    before_iteration(solver, begin)
    if solver.param.iter_size == 2:
        solver.net.after_forward(lambda layer: spoil() if layer == 2 else None)
    try:
        for _ in range(4):
            solver.step(1)
    except SolverError as error:
        return str(error)
    return solver.iter, weights(solver)


def spoil_data_and_listen(rank: int, *more: Any) -> Any:
    """What `spoil_data` returns, and the warnings of this process."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("moka").addHandler(handler)
    return spoil_data(rank, *more), said


@pytest.mark.parametrize(("spoilt_rank", "iter_size"), [(0, 1), (1, 2)])
def test_a_step_is_skipped_by_all(spoilt_rank: int, iter_size: int) -> None:
    write_solver(f"skip_nonfinite: 1 iter_size: {iter_size}")
    (first, said), (second, said_too) = together(spoil_data_and_listen, spoilt_rank, 2)
    assert first == second
    assert first[0] == 4
    (warning,) = said  # by the first process alone
    assert warning.startswith(f"in process {spoilt_rank} of 2 ")
    assert "at iteration 2: skipped." in warning
    assert not said_too
    # All four updates but one: as three steps of a run that nothing has spoilt.
    (whole, _) = together(three_steps)
    assert first[1] == whole


def three_steps(rank: int, count: int, uid: bytes) -> list[float]:
    solver, _ = member(rank, count, uid)
    if solver.param.iter_size == 2:
        solver.net.after_forward(lambda layer: None)  # goes layer by layer too
    solver.net.blobs["x"].data[...] = 0.5 + rank
    solver.step(3)
    return weights(solver)


@pytest.mark.parametrize("spoilt_rank", [0, 1])
def test_a_run_that_diverges_ends_for_all(spoilt_rank: int) -> None:
    write_solver("")
    first, second = together(spoil_data, spoilt_rank, 2)
    assert first == second
    said = f"in process {spoilt_rank} of 2 the loss is nan at iteration 2: training has diverged"
    assert said in first
    assert 'top blob x of layer "data"' in first
    assert "See that iteration layer by layer with --replay=snap_iter_2.replay" in first
    assert [name for name in os.listdir() if name.endswith(".replay")] == ["snap_iter_2.replay"]


def spoil_layer_by_layer(rank: int, count: int, uid: bytes) -> Any:
    """Gradients are averaged as soon as they are there, so that the first NaN reaches all."""
    solver, _ = member(rank, count, uid, layer_by_layer=True)
    x = solver.net.blobs["x"]

    def spoil(iteration: int) -> None:
        x.data[...] = float("nan") if (rank, iteration) == (1, 1) else 0.5

    before_iteration(solver, spoil)
    try:
        solver.step(3)
    except SolverError as error:
        return str(error)
    return weights(solver)


def test_gradients_that_are_averaged_layer_by_layer_spoil_none() -> None:
    write_solver("skip_nonfinite: 1")
    first, second = together(spoil_layer_by_layer)
    assert first == second
    assert all(abs(value) < 10 for value in first)


def test_an_error_names_the_process_whose_gradients_spoiled_all() -> None:
    write_solver("")
    first, second = together(spoil_layer_by_layer)
    assert first == second
    assert "in process 1 of 2 the loss is nan at iteration 1" in first
    assert 'Not finite at first: top blob x of layer "data"' in first


# --- what depends on the loss -------------------------------------------------------------------


def rates(rank: int, count: int, uid: bytes) -> tuple[list[float], list[float]]:
    solver, records = member(rank, count, uid)
    solver.net.blobs["t"].data[...] = 2 if rank == 0 else 1e6  # whose loss is the mean's
    found = []
    for _ in range(8):
        found.append(solver.lr)
        solver.net.blobs["x"].data[...] *= 1 if rank == 0 else 1.5
        solver.step(1)
    return found, [r.loss for r in records if isinstance(r, IterationCompleted)]


def test_a_plateau_is_that_of_the_mean_loss() -> None:
    """The losses of the two go different ways."""
    write_solver('base_lr: 1e-12 lr_policy: "plateau" gamma: 0.5 plateau_winsize: 2')
    (first, losses), (second, _) = together(rates)
    assert first == second
    assert losses[0] == pytest.approx((2**2 + 1e12) / 4, rel=1e-3)  # each mean of (x - t)^2 / 2


# --- stopping and saving ------------------------------------------------------------------------


def solve(rank: int, count: int, uid: bytes) -> tuple[int, list[str]]:
    solver, records = member(rank, count, uid)
    solver.solve()
    return solver.iter, [type(r).__name__ for r in records]


def test_an_early_stop_stops_all() -> None:
    write_solver(
        'snapshot_best: "loss" snapshot_best_is: HIGHER early_stop: 2 test_iter: 1'
        " test_interval: 2 max_iter: 100"
    )
    (first, said), (second, nothing) = together(solve)
    assert first == second == 6
    assert EarlyStop.__name__ in said
    assert TestCompleted.__name__ in said
    assert nothing == []
    assert sorted(os.listdir()) == ["snap_best.caffemodel", "snap_best.solverstate",
                                    "solver.prototxt"]  # fmt: skip


def ask(rank: int, count: int, uid: bytes, asked_rank: int, effect: str) -> int:
    """One process gets a signal in its iteration 3."""
    solver, _ = member(rank, count, uid)
    inner: Solver = solver._solver
    signal.signal(signal.SIGINT, lambda *_: setattr(inner.requests, effect, True))

    def ask(iteration: int) -> None:
        if (rank, iteration) == (asked_rank, 3):
            signal.raise_signal(signal.SIGINT)

    before_iteration(solver, ask)
    solver.solve()
    return solver.iter


@pytest.mark.parametrize("asked_rank", [0, 1])
def test_a_signal_to_one_stops_all(asked_rank: int) -> None:
    write_solver("max_iter: 100 snapshot_after_train: true")
    assert together(ask, asked_rank, "stop") == [4, 4]
    assert Path("snap_iter_4.solverstate").exists()


@pytest.mark.parametrize("asked_rank", [0, 1])
def test_a_signal_to_one_saves_once(asked_rank: int) -> None:
    write_solver("")
    assert together(ask, asked_rank, "save") == [8, 8]
    assert sorted(os.listdir()) == ["snap_iter_4.caffemodel", "snap_iter_4.solverstate",
                                    "solver.prototxt"]  # fmt: skip


def ask_after_the_loss(rank: int, count: int, uid: bytes, asked_rank: int) -> int:
    """One process is asked to stop when all have told each other the loss of an iteration."""
    solver, _ = member(rank, count, uid)
    requests = solver._solver.requests

    def ask() -> None:
        requests.stop = requests.stop or (rank, solver.iter) == (asked_rank, 3)

    solver.add_callback(lambda: None, ask)
    solver.solve()
    return solver.iter


@pytest.mark.parametrize("asked_rank", [0, 1])
def test_a_late_request_stops_all_an_iteration_later(asked_rank: int) -> None:
    write_solver("max_iter: 100")
    assert together(ask_after_the_loss, asked_rank) == [5, 5]


# --- resuming -----------------------------------------------------------------------------------


def resume(rank: int, count: int, uid: bytes, state: str, to: int) -> Any:
    torch.manual_seed(99 + rank)  # a new process starts from another seed
    solver, records = member(rank, count, uid)
    if state:
        solver.restore(state)
    solver.step(to - solver.iter)
    drawn = torch.rand(3).tolist()
    losses = [r.loss for r in records if isinstance(r, IterationCompleted)]
    return weights(solver), drawn, losses[-3:]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_a_resumed_run_of_two_is_the_same_run(kind: str) -> None:
    """Data order, crops, mirrors and dropout of both, to the last bit."""
    text = f"momentum: 0.9 iter_size: 2 average_loss: 3 snapshot: 4 snapshot_format: {kind}"
    write_solver(text, "random")
    straight = together(resume, "", 8)
    states = {p.name: p.read_bytes() for p in Path().glob("snap_iter_8*")}
    assert len(states) == 2
    write_solver(text.replace("momentum", "random_seed: 8 momentum"), "random")
    (state,) = Path().glob("snap_iter_4.solverstate*")
    assert together(resume, str(state), 8) == straight
    assert {name: Path(name).read_bytes() for name in states} == states
    assert straight[0][0] == straight[1][0]  # equal weights
    assert straight[0][1] != straight[1][1]  # from other dropout masks


def unseeded(rank: int, count: int, uid: bytes) -> Any:
    """A solver that was given its team; nothing else connects it."""
    torch.manual_seed(100 + rank)
    config = read_solver("solver.prototxt")
    config.message.ClearField("random_seed")
    solver = Solver(config, team=join_team(uid, rank, count, torch.device("cpu"), patience_s=20))
    (data,) = (source for _, source in solver.net.sources)
    records = [data()[1].tolist() for _ in range(2)]
    solver.step(3)
    return [w.tolist() for w in solver.net.parameters()], records, torch.rand(3).tolist()


@pytest.mark.usefixtures("database")
def test_a_team_needs_no_seed_and_no_callback() -> None:
    write_solver("momentum: 0.9", "random")
    (weights, records, drawn), (others, other_records, other_drawn) = together(unseeded)
    assert weights == others
    assert records != other_records  # each has its share
    assert drawn != other_drawn


# --- one that stops -----------------------------------------------------------------------------


def close_one(rank: int, count: int, uid: bytes, closed_rank: int) -> str:
    solver, _ = member(rank, count, uid)
    solver.step(2)
    if rank == closed_rank:
        solver._solver.close()
        return ""
    with pytest.raises(SolverError) as error:
        solver.step(2)
    return str(error.value)


@pytest.mark.parametrize("closed_rank", [0, 1])
def test_who_waits_for_a_closed_solver_is_told(closed_rank: int) -> None:
    write_solver("")
    said = together(close_one, closed_rank)[1 - closed_rank]
    assert f"process {1 - closed_rank} of the 2 that train together can no longer reach" in said


def fail_one(rank: int, count: int, uid: bytes, failing_rank: int) -> str:
    solver, _ = member(rank, count, uid)

    def fail(iteration: int) -> None:
        if (rank, iteration) == (failing_rank, 2):
            raise DataError("the disk is gone.")

    before_iteration(solver, fail)
    with pytest.raises((DataError, SolverError)) as error:
        solver.step(4)
    return str(error.value)


@pytest.mark.parametrize("failing_rank", [0, 1])
def test_who_waits_for_one_with_an_error_is_told(failing_rank: int) -> None:
    write_solver("")
    said = together(fail_one, failing_rank)
    assert said[failing_rank] == "the disk is gone."
    assert (
        "One of them has ended, or hangs; its own log or error says why." in said[1 - failing_rank]
    )
