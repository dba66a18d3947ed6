"""Data, random numbers and layers go on where a snapshot stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch
from tests.training_runs import iterations, weights

from moka.report.records import (
    Record,
    TestCompleted,
)

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
