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
from moka.solver.snapshot import (
    check_writable,
    file_names,
    latest_state,
    load_history,
    model_of,
    read_state,
    snapshot_prefix,
)

if TYPE_CHECKING:
    from tests.solver.conftest import SolverMaker


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_file_names() -> None:
    names = ("run/snap_iter_20.caffemodel", "run/snap_iter_20.solverstate")
    assert file_names("run/snap", 20) == names


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("", "sub/lenet_solver"), ("out/snap", "out/snap"), ("out", "out/lenet_solver")],
)
def test_prefix(given: str, wanted: str) -> None:
    Path("out").mkdir()
    config = caffe_pb2.SolverParameter(snapshot_prefix=given)
    assert snapshot_prefix(config, "sub/lenet_solver.prototxt") == wanted


def test_latest_state_is_the_highest_number_with_a_model() -> None:
    for name in ("snap_iter_9", "snap_iter_100", "snap_iter_x", "other_iter_500"):
        Path(f"{name}.solverstate").touch()
        Path(f"{name}.caffemodel").touch()
    Path("snap_iter_200.solverstate").touch()
    Path("snap_iter_300.caffemodel").touch()
    assert latest_state("snap") == "snap_iter_100.solverstate"
    assert latest_state("none") is None


@pytest.mark.parametrize("prefix", ["snap", "out/snap"])
def test_writable_folders_stay_empty(prefix: str) -> None:
    Path("out").mkdir()
    check_writable(prefix)
    assert os.listdir() == ["out"]
    assert os.listdir("out") == []


@pytest.mark.parametrize(
    ("prefix", "says"),
    [("gone/snap", "'gone/snap': No such file"), ("a_file/snap", "'a_file/snap': Not a directory")],
)
def test_folders_that_cannot_be_written(prefix: str, says: str) -> None:
    Path("a_file").touch()
    with pytest.raises(SolverError, match=says):
        check_writable(prefix)


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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"File not found: s\.solverstate"),
        (b"\xff\xff", r"s\.solverstate: .*SolverState.*truncated"),
        (b"", r"s\.solverstate: .*no iteration and no model"),
        (caffe_pb2.SolverState(iter=3).SerializeToString(), "no iteration and no model"),
        (caffe_pb2.SolverState(learned_net="m").SerializeToString(), "no iteration and no model"),
    ],
)
def test_states_that_are_none(content: bytes | None, says: str) -> None:
    if content is not None:
        Path("s.solverstate").write_bytes(content)
    with pytest.raises(SolverError, match=says):
        read_state("s.solverstate")


def test_a_model_that_has_moved_with_its_state() -> None:
    state = caffe_pb2.SolverState(iter=1, learned_net="before/m.caffemodel")
    Path("now").mkdir()
    assert model_of(state, "now/s.solverstate") == "before/m.caffemodel"
    Path("now/m.caffemodel").touch()
    assert model_of(state, "now/s.solverstate") == "now/m.caffemodel"
    Path("before").mkdir()
    Path("before/m.caffemodel").touch()
    assert model_of(state, "now/s.solverstate") == "before/m.caffemodel"


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
        for suffix in (".solverstate", ".caffemodel"):
            (tmp_path / f"{name}{suffix}").touch()
    assert latest_state(str(tmp_path / "a")) == str(tmp_path / "a_iter_3.solverstate")
    assert latest_state(str(tmp_path / "a*")) == str(tmp_path / "a*_iter_9.solverstate")
    assert latest_state(str(tmp_path / "nowhere" / "a")) is None
