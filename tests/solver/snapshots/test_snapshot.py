from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import SolverError
from moka.schema import blobproto, caffe_pb2, read_binary
from moka.solver.snapshots.snapshot import (
    averaged_name,
    averaged_of,
    best_names,
    check_prefix,
    file_names,
    latest_state,
    load_history,
    model_of,
    snapshot_prefix,
    snapshots,
    state_before,
)
from moka.solver.snapshots.state_file import write_state

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("end", ["", ".h5"])
def test_file_names(end: str) -> None:
    names = (f"run/snap_iter_20.caffemodel{end}", f"run/snap_iter_20.solverstate{end}")
    assert file_names("run/snap", 20, hdf5=bool(end)) == names


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("", "sub/lenet_solver"), ("out/snap", "out/snap"), ("out", "out/lenet_solver")],
)
def test_prefix(given: str, wanted: str) -> None:
    Path("out").mkdir()
    config = caffe_pb2.SolverParameter(snapshot_prefix=given)
    assert snapshot_prefix(config, "sub/lenet_solver.prototxt") == wanted


def put_snapshot(stem: str, end: str = "", *, state: bool = True, model: bool = True) -> None:
    """Files as a snapshot leaves them, the model an empty one."""
    if state:
        message = caffe_pb2.SolverState(iter=1, learned_net=f"{stem}.caffemodel{end}")
        write_state(f"{stem}.solverstate{end}", message, hdf5=bool(end))
    if model:
        Path(f"{stem}.caffemodel{end}").touch()


def test_latest_state_is_the_highest_number_with_a_model() -> None:
    for name in ("snap_iter_9", "snap_iter_100", "snap_iter_x", "other_iter_500"):
        put_snapshot(name)
    put_snapshot("snap_iter_200", model=False)
    put_snapshot("snap_iter_300", state=False)
    assert latest_state("snap") == "snap_iter_100.solverstate"
    assert latest_state("none") is None


def test_latest_state_of_both_kinds() -> None:
    put_snapshot("snap_iter_1")
    put_snapshot("snap_iter_2", ".h5")
    assert latest_state("snap") == "snap_iter_2.solverstate.h5"
    Path("snap_iter_2.caffemodel.h5").rename("snap_iter_2.caffemodel")
    assert latest_state("snap") == "snap_iter_1.solverstate"


@pytest.mark.parametrize("end", ["", ".h5"])
def test_latest_state_that_is_whole(end: str, caplog: pytest.LogCaptureFixture) -> None:
    for k in (1, 2, 3):
        put_snapshot(f"snap_iter_{k}", end)
    for k in (2, 3):
        file = Path(f"snap_iter_{k}.solverstate{end}")
        file.write_bytes(file.read_bytes()[:-7])
    assert latest_state("snap") == f"snap_iter_1.solverstate{end}"
    assert [m.split(":")[0] for m in caplog.messages] == [
        f"snap_iter_{k}.solverstate{end}" for k in (3, 2)
    ]
    assert all(m.endswith("The snapshot before it is taken.") for m in caplog.messages)


def test_latest_state_refuses_when_all_are_damaged() -> None:
    for k in (1, 2):
        put_snapshot(f"snap_iter_{k}")
        Path(f"snap_iter_{k}.solverstate").write_bytes(b"\xff")
    with pytest.raises(SolverError, match=r"none of the snapshots under snap can be read.*_iter_2"):
        latest_state("snap")


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
    with pytest.raises(SolverError, match=says):
        check_prefix(prefix)


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
    assert latest_state("snap") == "snap_iter_2.solverstate"


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


def test_the_model_beside_a_state_is_its_own() -> None:
    state = caffe_pb2.SolverState(iter=1, learned_net="before/m.caffemodel")
    Path("now").mkdir()
    assert model_of(state, "now/s.solverstate") == "before/m.caffemodel"
    Path("now/m.caffemodel").touch()
    assert model_of(state, "now/s.solverstate") == "now/m.caffemodel"
    Path("before").mkdir()
    Path("before/m.caffemodel").touch()  # the run that was copied goes on by itself
    assert model_of(state, "now/s.solverstate") == "now/m.caffemodel"


def history_of(*shapes: tuple[int, ...]) -> list[caffe_pb2.BlobProto]:
    return [blobproto.from_array(np.full(shape, i + 1, np.float32))
            for i, shape in enumerate(shapes)]  # fmt: skip


def test_history_is_copied_in() -> None:
    state = caffe_pb2.SolverState(history=history_of((2, 3), (2,)))
    tensors = [torch.zeros(2, 3), torch.zeros(2)]
    load_history(state, tensors, "s.solverstate")
    assert [set(t.flatten().tolist()) for t in tensors] == [{1.0}, {2.0}]


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(2, 3)], "the file has 1, the solver 2"),
        ([(2, 3), (3,)], r"history 1 has shape \(3,\), the solver's has \(2,\)"),
    ],
)
def test_histories_that_do_not_fit(shapes: list[tuple[int, ...]], says: str) -> None:
    state = caffe_pb2.SolverState(history=history_of(*shapes))
    tensors = [torch.zeros(2, 3), torch.zeros(2)]
    with pytest.raises(SolverError, match=rf"s\.solverstate: .*{says}"):
        load_history(state, tensors, "s.solverstate")
    assert not tensors[0].any()  # nothing is half restored


def test_only_this_prefix_counts(tmp_path: Path) -> None:
    for name in ("a_iter_3", "a_iter_b_iter_5", "aa_iter_7", "a*_iter_9"):
        put_snapshot(str(tmp_path / name))
    assert latest_state(str(tmp_path / "a")) == str(tmp_path / "a_iter_3.solverstate")
    assert latest_state(str(tmp_path / "a*")) == str(tmp_path / "a*_iter_9.solverstate")
    assert latest_state(str(tmp_path / "nowhere" / "a")) is None


@pytest.mark.parametrize("end", ["", ".h5"])
def test_names_of_the_best_and_of_averaged_weights(end: str) -> None:
    model, state = best_names("run/snap", hdf5=bool(end))
    assert (model, state) == (f"run/snap_best.caffemodel{end}", f"run/snap_best.solverstate{end}")
    assert averaged_name(model) == f"run/snap_best.ema.caffemodel{end}"


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


def test_older_averaged_weights_go_too(make_solver: SolverMaker) -> None:
    make_solver("snapshot_keep: 1 snapshot: 2 ema_decay: 0.5").step(4)
    assert sorted(os.listdir()) == [
        f"snap_iter_4.{kind}" for kind in ("caffemodel", "ema.caffemodel", "solverstate")
    ]


def test_averaged_weights_that_have_moved_with_their_state() -> None:
    state = caffe_pb2.SolverState()
    assert averaged_of(state, "now/s.solverstate") is None
    state.run_state.averaged_net = "before/m.ema.caffemodel"
    Path("now").mkdir()
    Path("now/m.ema.caffemodel").touch()
    assert averaged_of(state, "now/s.solverstate") == "now/m.ema.caffemodel"
