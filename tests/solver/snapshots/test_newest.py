from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.training_runs import NETS, put_snapshot

from moka.errors import SolverError
from moka.schema import caffe_pb2
from moka.solver.snapshots.newest import newest_state
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def newest(prefix: str) -> str | None:
    """As in a run to whose net all snapshots belong."""
    return newest_state(prefix, lambda *_: None)


def written(stem: str, at_s: float) -> None:
    """A snapshot that was written at a time."""
    put_snapshot(stem)
    for end in ("solverstate", "caffemodel"):
        os.utime(f"{stem}.{end}", (at_s, at_s))


def test_the_newest_is_the_one_that_was_written_last(caplog: pytest.LogCaptureFixture) -> None:
    """A longer run has left higher numbers; a new one has got as far as 60."""
    for iteration, at_s in ((20, 210), (40, 100), (60, 220), (80, 101), (100, 102)):
        written(f"snap_iter_{iteration}", at_s)
    assert newest("snap") == "snap_iter_60.solverstate"
    assert caplog.messages == [
        f"snap_iter_{k}.solverstate has a higher iteration but is older than"
        " snap_iter_60.solverstate, which is taken."
        for k in (100, 80)
    ]


def test_of_equal_times_the_highest_iteration_counts(caplog: pytest.LogCaptureFixture) -> None:
    """As files of a copy may have."""
    for iteration in (9, 1000, 100):
        written(f"snap_iter_{iteration}", 5)
    assert newest("snap") == "snap_iter_1000.solverstate"
    assert not caplog.messages


def test_another_nets_are_left_aside(caplog: pytest.LogCaptureFixture) -> None:
    for iteration, at_s in ((1, 1), (2, 2), (3, 3)):
        written(f"snap_iter_{iteration}", at_s)

    def why(state: caffe_pb2.SolverState, file: str) -> str | None:
        return "it has no layer x." if "_3" in file else None

    assert newest_state("snap", why) == "snap_iter_2.solverstate"
    assert caplog.messages == [
        "snap_iter_3.solverstate is of another net and is left aside: it has no layer x."
    ]
    caplog.clear()
    assert newest_state("snap", lambda *_: "it is odd.") is None
    assert len(caplog.messages) == 3


OTHER_NET = NETS["linear"].replace("num_output: 1", "num_output: 2").replace("dim: 1", "dim: 2")
RENAMED = NETS["linear"].replace('"ip"', '"other"')


@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize(
    ("net", "says"),
    [(OTHER_NET, "Cannot copy param 0 weights from layer 'ip'; shape mismatch"),
     (RENAMED, "has no layer ip."),
     (NETS["recurrent"], "has no layer ip.")],
)  # fmt: skip
def test_a_run_takes_its_own_nets_newest(
    make_solver: SolverMaker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    net: str,
    says: str,
    kind: str,
) -> None:
    monkeypatch.setitem(NETS, "other", net)
    text = f"snapshot_format: {kind}"
    own = make_solver(text)
    own.step(1)
    _, state = own.snapshot()
    other = make_solver(text, net="other")
    assert other.newest_snapshot() is None
    other.step(2)
    other.snapshot()
    caplog.clear()
    assert own.newest_snapshot() == state
    (said,) = caplog.messages
    assert says in said
    assert said.startswith("snap_iter_2.solverstate")


def two_snapshots(solver: Solver) -> tuple[tuple[str, str], tuple[str, str]]:
    """Model and state after one iteration, and after the next."""
    solver.step(1)
    first = solver.snapshot()
    solver.step(1)
    return first, solver.snapshot()


def test_a_damaged_model_is_passed_over(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture
) -> None:
    solver = make_solver("")
    (_, state), (model, _) = two_snapshots(solver)
    Path(model).write_bytes(Path(model).read_bytes()[:-9])
    assert solver.newest_snapshot() == state
    assert "The snapshot before it is taken." in caplog.text
    Path("snap_iter_1.caffemodel").unlink()
    with pytest.raises(SolverError, match=r"none .* can be used; .*snap_iter_2\.caffemodel"):
        solver.newest_snapshot()


def test_histories_of_another_net_are_left_aside(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture
) -> None:
    solver = make_solver("")
    (_, state), (_, later) = two_snapshots(solver)
    message = caffe_pb2.SolverState.FromString(Path(later).read_bytes())
    del message.history[-1:]
    Path(later).write_bytes(message.SerializeToString())
    assert solver.newest_snapshot() == state
    assert "is left aside: Incorrect length of history blobs" in caplog.text


def test_another_type_of_solver_cannot_go_on(make_solver: SolverMaker) -> None:
    solver = make_solver("")
    solver.step(1)
    solver.snapshot()
    with pytest.raises(SolverError, match=r"state of a solver of type SGD, not of Adam\. Set type"):
        make_solver('type: "Adam"').newest_snapshot()


def test_it_has_a_model_and_the_given_prefix() -> None:
    for name in ("snap_iter_9", "snap_iter_100", "snap_iter_x", "other_iter_500"):
        put_snapshot(name)
    put_snapshot("snap_iter_200", model=False)
    put_snapshot("snap_iter_300", state=False)
    assert newest("snap") == "snap_iter_100.solverstate"
    assert newest("none") is None


def test_both_kinds_count() -> None:
    put_snapshot("snap_iter_1")
    put_snapshot("snap_iter_2", ".h5")
    assert newest("snap") == "snap_iter_2.solverstate.h5"
    Path("snap_iter_2.caffemodel.h5").rename("snap_iter_2.caffemodel")
    assert newest("snap") == "snap_iter_1.solverstate"


@pytest.mark.parametrize("end", ["", ".h5"])
def test_damaged_states_are_passed_over(end: str, caplog: pytest.LogCaptureFixture) -> None:
    for k in (1, 2, 3):
        put_snapshot(f"snap_iter_{k}", end)
    for k in (2, 3):
        file = Path(f"snap_iter_{k}.solverstate{end}")
        file.write_bytes(file.read_bytes()[:-7])
    assert newest("snap") == f"snap_iter_1.solverstate{end}"
    assert [m.split(":")[0] for m in caplog.messages] == [
        f"snap_iter_{k}.solverstate{end}" for k in (3, 2)
    ]
    assert all(m.endswith("The snapshot before it is taken.") for m in caplog.messages)


def test_it_is_refused_if_all_are_damaged() -> None:
    for k in (1, 2):
        put_snapshot(f"snap_iter_{k}")
        Path(f"snap_iter_{k}.solverstate").write_bytes(b"\xff")
    with pytest.raises(SolverError, match=r"none of the snapshots under snap can be used.*_iter_2"):
        newest("snap")


def test_only_this_prefix_counts(tmp_path: Path) -> None:
    for name in ("a_iter_3", "a_iter_b_iter_5", "aa_iter_7", "a*_iter_9"):
        put_snapshot(str(tmp_path / name))
    assert newest(str(tmp_path / "a")) == str(tmp_path / "a_iter_3.solverstate")
    assert newest(str(tmp_path / "a*")) == str(tmp_path / "a*_iter_9.solverstate")
    assert newest(str(tmp_path / "nowhere" / "a")) is None
