"""Data, random numbers and layers go on where a snapshot stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from tests.training_runs import iterations, weights
from torch import Tensor

from moka.report.records import Record, TestCompleted
from moka.schema import caffe_pb2
from moka.solver.snapshots.position import Position

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


def test_a_test_goes_on_with_its_own_data_after_resuming(
    make_solver: SolverMaker, database: str
) -> None:
    text = "test_iter: 1 test_interval: 2"
    straight: list[Record] = []
    make_solver(text, "plain", straight).step(5)
    solver = make_solver(text, "plain")
    solver.step(3)
    _, state = solver.snapshot()
    resumed: list[Record] = []
    solver = make_solver(text, "plain", resumed)
    solver.restore(state)
    solver.step(2)
    last = [r for r in straight if isinstance(r, TestCompleted)][-1]
    assert [r for r in resumed if isinstance(r, TestCompleted)] == [last]
    assert last.iteration == 4


def test_shuffled_hdf5_data_goes_on_after_resuming(make_solver: SolverMaker) -> None:
    with h5py.File("rows.h5", "w") as file:
        file["x"] = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
        file["t"] = np.arange(7, dtype=np.float32)[:, None]
    Path("rows.txt").write_text("rows.h5")
    runs = []
    for stop_at in (None, 4):
        solver = make_solver(net="hdf5")
        if stop_at:
            solver.step(stop_at)
            _, state = solver.snapshot()
            solver = make_solver("random_seed: 9", net="hdf5")
            solver.restore(state)
        solver.step(9 - solver.iteration)
        runs.append(weights(solver))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_sequences_go_on_after_resuming(make_solver: SolverMaker) -> None:
    text = "test_iter: 1 test_interval: 2 momentum: 0.5"
    straight: list[Record] = []
    make_solver(text, "recurrent", straight).step(5)
    solver = make_solver(text, "recurrent")
    solver.step(3)
    _, state = solver.snapshot()
    resumed: list[Record] = []
    solver = make_solver("random_seed: 9 " + text, "recurrent", resumed)
    solver.restore(state)
    solver.step(2)
    assert [r.loss for r in iterations(resumed)] == [r.loss for r in iterations(straight)][3:]
    tests = [r for r in straight if isinstance(r, TestCompleted)]
    assert [r for r in resumed if isinstance(r, TestCompleted)] == tests[-1:]


def two_states(make_solver: SolverMaker) -> tuple[caffe_pb2.SolverState, list[Tensor]]:
    """A state of two processes, whose positions differ; and what they draw next."""
    solver = make_solver("", net="random")
    nets, found, drawn = [solver.net], [], []
    for steps in (2, 1):
        solver.step(steps)
        found.append(Position(nets).state())
        drawn.append(torch.rand(3))
    state, other = found
    run = other.run_state
    state.run_state.other_rank.add(random=run.random, cursor=run.cursor, layer=run.layer)
    return state, drawn


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_goes_on_from_its_own_place(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture, rank: int
) -> None:
    state, drawn = two_states(make_solver)
    net = make_solver("", net="random").net
    position = Position([net], rank, 2)
    position.load_state(state)
    assert torch.equal(torch.rand(3), drawn[rank])
    position.load_state(state)
    first = state.run_state
    wanted = first.other_rank[0].cursor if rank else first.cursor
    assert position.state().run_state.cursor == wanted
    assert not caplog.messages


@pytest.mark.usefixtures("database")
def test_one_process_more_goes_on_with_the_same_data(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture
) -> None:
    state, drawn = two_states(make_solver)
    net = make_solver("", net="random").net
    torch.manual_seed(5)
    Position([net], 2, 3).load_state(state)
    third = torch.get_rng_state()  # the first one's would repeat its masks
    Position([net], 1, 3).load_state(state)
    assert not torch.equal(torch.get_rng_state(), third)
    torch.manual_seed(6)  # whatever the process has drawn before
    Position([net], 2, 3).load_state(state)
    assert torch.equal(torch.get_rng_state(), third)
    assert Position([net]).state().run_state.cursor == state.run_state.cursor
    assert not caplog.messages
    Position([net], 0, 3).load_state(state)
    assert torch.equal(torch.rand(3), drawn[0])
    assert "of a run of 2, not 3, processes" in caplog.text


def test_a_state_of_bvlc_caffe_has_no_position(make_solver: SolverMaker) -> None:
    net = make_solver().net
    before = torch.get_rng_state()
    Position([net]).load_state(caffe_pb2.SolverState(iter=3))
    assert torch.equal(torch.get_rng_state(), before)
