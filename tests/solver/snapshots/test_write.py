from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.training_runs import weights

from moka.errors import SolverError
from moka.report.records import (
    Record,
    SnapshotWritten,
)
from moka.schema import blobproto, caffe_pb2, read_binary
from moka.solver.snapshots.write import check_prefix
from moka.weights import load_weights

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("prefix", ["snap", "out/snap"])
def test_writable_folders_stay_empty(prefix: str) -> None:
    Path("out").mkdir()
    check_prefix(prefix)
    assert os.listdir() == ["out"]
    assert os.listdir("out") == []


@pytest.mark.parametrize(
    ("prefix", "says"),
    [("gone/snap", "'gone/snap': No such file"), ("a_file/snap", "'a_file/snap': Not a directory")],
)
def test_folders_that_cannot_be_written(prefix: str, says: str) -> None:
    Path("a_file").touch()
    with pytest.raises(SolverError, match=says) as relative:
        check_prefix(prefix)
    start = f" Relative names start at the current directory, {os.getcwd()}."
    assert str(relative.value).endswith(f"is writable.{start}")
    with pytest.raises(SolverError, match=r"is writable\.$"):
        check_prefix(os.path.abspath(prefix))


def test_what_a_snapshot_holds(make_solver: SolverMaker) -> None:
    solver = make_solver('momentum: 0.9 lr_policy: "step" gamma: 0.5 stepsize: 2')
    solver.step(5)
    assert solver.snapshot() == ("snap_iter_5.caffemodel", "snap_iter_5.solverstate")
    assert sorted(os.listdir()) == ["snap_iter_5.caffemodel", "snap_iter_5.solverstate"]
    state = read_binary("snap_iter_5.solverstate", caffe_pb2.SolverState)
    assert (state.iter, state.learned_net) == (5, "snap_iter_5.caffemodel")
    assert state.current_step == 2  # floor(4 / 2): of the last iteration that was made
    assert [tuple(b.shape.dim) for b in state.history] == [(1, 3), (1,)]
    model = read_binary("snap_iter_5.caffemodel", caffe_pb2.NetParameter)
    layer = next(layer for layer in model.layer if layer.name == "ip")
    for blob, wanted in zip(layer.blobs, solver.net.layers[1].weights, strict=True):
        np.testing.assert_array_equal(blobproto.to_array(blob), wanted.detach())
        assert not blob.diff


def test_snapshot_diff(make_solver: SolverMaker) -> None:
    solver = make_solver("snapshot_diff: true")
    solver.step(1)
    model = read_binary(solver.snapshot()[0], caffe_pb2.NetParameter)
    layer = next(layer for layer in model.layer if layer.name == "ip")
    grad = solver.net.layers[1].weights[0].grad
    assert grad is not None
    np.testing.assert_array_equal(blobproto.to_array(layer.blobs[0], diff=True), grad)


def failing(call: int) -> Callable[..., None]:
    """Stands in for a function of `os`; a full disk from the given call on."""
    calls = 0

    def function(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return function


@pytest.mark.parametrize(("function", "call"), [("fsync", 1), ("fsync", 3), ("replace", 1)])
def test_a_full_disk_leaves_the_earlier_snapshot_and_no_half_files(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    solver = make_solver()
    solver.step(1)
    solver.snapshot()
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    solver.step(1)
    with monkeypatch.context() as patched:
        patched.setattr(os, function, failing(call))
        with pytest.raises(SolverError, match=r"snap_iter_2\.caffemodel: .*iteration 2 .*No space"):
            solver.snapshot()
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before
    solver.snapshot()
    assert solver.newest_snapshot() == "snap_iter_2.solverstate"


@pytest.mark.parametrize("state_is_there", [True, False])
def test_a_full_disk_does_not_touch_files_of_the_same_names(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch, state_is_there: bool
) -> None:
    solver = make_solver()
    solver.step(1)
    _, state = solver.snapshot()
    if not state_is_there:
        os.unlink(state)
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(1))
        with pytest.raises(SolverError, match="No space"):
            solver.snapshot()
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


BEST = 'snapshot_best: "loss" test_iter: 1 test_interval: 100 ema_decay: 0.5'


@pytest.mark.parametrize("call", [1, 3, 5])
def test_a_full_disk_leaves_the_best_snapshot(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    solver = make_solver(BEST)
    solver.step(1)
    solver.test_all()
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    solver.step(1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(call))
        with pytest.raises(SolverError, match=r"snap_best\.caffemodel: .*iteration 2 .*No space"):
            solver.test_all()
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


@pytest.mark.parametrize("call", range(4, 8))
def test_a_best_state_is_never_beside_another_model(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The process is killed before one of the renames; three write the files aside."""
    solver = make_solver(BEST)
    solver.step(1)
    solver.test_all()
    solver.step(1)
    replace, calls = os.replace, 0

    def killed(*names: str) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise KeyboardInterrupt
        replace(*names)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        if call < 7:
            with pytest.raises(KeyboardInterrupt):
                solver.test_all()
        else:
            solver.test_all()
    assert Path("snap_best.solverstate").exists() == (call == 7)
    assert Path("snap_best.caffemodel").exists()


def test_averaged_weights_lie_beside_each_snapshot(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("ema_decay: 0.75", records=records)
    solver.step(1)
    wanted = weights(solver)
    for _ in range(3):
        solver.step(1)
        wanted = [0.75 * a + 0.25 * w for a, w in zip(wanted, weights(solver), strict=True)]
    files = solver.snapshot()
    assert records[-1] == SnapshotWritten(4, *files, "snap_iter_4.ema.caffemodel")
    fresh = make_solver()
    load_weights(fresh.net, ["snap_iter_4.ema.caffemodel"])
    for a, b in zip(weights(fresh), wanted, strict=True):
        torch.testing.assert_close(a, b)
    load_weights(fresh.net, [files[0]])
    for a, b in zip(weights(fresh), weights(solver), strict=True):
        assert torch.equal(a, b)


def test_parameters_that_are_no_numbers_are_not_saved(make_solver: SolverMaker) -> None:
    solver = make_solver("snapshot: 1 base_lr: 1e38 weight_decay: 1e9")
    with pytest.raises(SolverError, match="a parameter is not a finite number at iteration"):
        solver.step(5)
    for name in os.listdir():
        if name.endswith(".caffemodel"):
            load_weights(solver.net, [name])
            assert all(w.isfinite().all() for w in weights(solver))
