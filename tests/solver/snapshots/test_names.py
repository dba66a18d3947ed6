from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.training_runs import put_snapshot

from moka.schema import caffe_pb2
from moka.solver.snapshots.names import (
    averaged_name,
    averaged_of,
    best_names,
    file_names,
    model_of,
    snapshots,
    state_before,
)

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("end", ["", ".h5"])
def test_file_names(end: str) -> None:
    names = (f"run/snap_iter_20.caffemodel{end}", f"run/snap_iter_20.solverstate{end}")
    assert file_names("run/snap", 20, hdf5=bool(end)) == names


def test_state_before() -> None:
    for k in (1, 2, 10):
        put_snapshot(f"snap_iter_{k}")
    assert state_before("snap_iter_10.solverstate") == "snap_iter_2.solverstate"
    assert state_before("snap_iter_5.solverstate.h5") == "snap_iter_2.solverstate"
    assert state_before("snap_iter_1.solverstate") is None
    assert state_before("something") is None


def test_the_last_snapshots_stay(make_solver: SolverMaker) -> None:
    solver = make_solver("snapshot_keep: 2 snapshot: 2 max_iter: 100")
    put_snapshot("snap_iter_1")
    put_snapshot("snap_iter_9")  # of a longer run: not older
    put_snapshot("other_iter_1")
    for iteration, kept in ((2, {1, 2, 9}), (4, {2, 4, 9}), (6, {4, 6, 9})):
        solver.step(2)
        assert {i for i, *_ in snapshots("snap")} == kept
        assert solver.iteration == iteration
    assert len(snapshots("other")) == 1


def test_older_averaged_weights_go_too(make_solver: SolverMaker) -> None:
    make_solver("snapshot_keep: 1 snapshot: 2 ema_decay: 0.5").step(4)
    assert sorted(os.listdir()) == [
        f"snap_iter_4.{kind}" for kind in ("caffemodel", "ema.caffemodel", "solverstate")
    ]


def test_the_model_beside_a_state_is_its_own() -> None:
    state = caffe_pb2.SolverState(iter=1, learned_net="before/m.caffemodel")
    Path("now").mkdir()
    assert model_of(state, "now/s.solverstate") == "before/m.caffemodel"
    Path("now/m.caffemodel").touch()
    assert model_of(state, "now/s.solverstate") == "now/m.caffemodel"
    Path("before").mkdir()
    Path("before/m.caffemodel").touch()  # the run that was copied goes on by itself
    assert model_of(state, "now/s.solverstate") == "now/m.caffemodel"


@pytest.mark.parametrize("end", ["", ".h5"])
def test_names_of_the_best_and_of_averaged_weights(end: str) -> None:
    model, state = best_names("run/snap", hdf5=bool(end))
    assert (model, state) == (f"run/snap_best.caffemodel{end}", f"run/snap_best.solverstate{end}")
    assert averaged_name(model) == f"run/snap_best.ema.caffemodel{end}"


def test_averaged_weights_that_have_moved_with_their_state() -> None:
    state = caffe_pb2.SolverState()
    assert averaged_of(state, "now/s.solverstate") is None
    state.run_state.averaged_net = "before/m.ema.caffemodel"
    Path("now").mkdir()
    Path("now/m.ema.caffemodel").touch()
    assert averaged_of(state, "now/s.solverstate") == "now/m.ema.caffemodel"
