"""Signals stop a training run or have it saved, and it says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.training import SOLVER, names, replace, snapshots

from moka.cli.train import how_to_resume
from moka.command.processes import Noted
from moka.errors import INTERRUPTED
from moka.parallel.team import REQUEUE
from moka.schema import caffe_pb2, read_binary
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe

PATIENCE_S = 60.0  # for a process to start or end; only a failure waits that long


@pytest.fixture
def endless(workspace: Path) -> Iterator[subprocess.Popen[str]]:
    """A training process that goes on until it is told to stop; it has begun."""
    replace("solver.prototxt", "max_iter: 4", "max_iter: 100000000")
    replace("solver.prototxt", "snapshot: 2", "snapshot: 0")
    replace("solver.prototxt", "test_interval: 4", "test_interval: 1000000")
    replace("solver.prototxt", "display: 2", "display: 0")
    with open("log", "w") as log:
        process = subprocess.Popen([sys.executable, "-m", "moka", *SOLVER], stderr=log, text=True)
    try:
        assert wait_for_log("Testing net", process)
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def wait_for_log(text: str, process: subprocess.Popen[str]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        if text in Path("log").read_text():
            return True
        time.sleep(0.02)
    return text in Path("log").read_text()


def test_sigint_stops_with_a_snapshot(endless: subprocess.Popen[str]) -> None:
    endless.send_signal(signal.SIGINT)
    assert endless.wait(PATIENCE_S) == 0
    log = Path("log").read_text()
    assert "Optimization stopped early." in log
    assert "Traceback" not in log
    (model, state) = snapshots()
    assert read_binary(state, caffe_pb2.SolverState).learned_net == model
    assert f"To go on: caffe train --solver=solver.prototxt --snapshot={state}\n" in log


def test_sighup_saves_and_goes_on(endless: subprocess.Popen[str]) -> None:
    endless.send_signal(signal.SIGHUP)
    assert wait_for_log("Snapshotting solver state", endless)
    assert endless.poll() is None
    assert len(snapshots()) == 2
    endless.send_signal(signal.SIGINT)
    assert endless.wait(PATIENCE_S) == 0
    assert len(snapshots()) == 4


def test_sigterm_saves_and_asks_for_another_run(endless: subprocess.Popen[str]) -> None:
    endless.send_signal(signal.SIGTERM)
    assert endless.wait(PATIENCE_S) == 75
    (_, state) = snapshots()
    assert f"--snapshot={state}\n" in Path("log").read_text()


@pytest.mark.parametrize(
    ("effect", "stops", "saves"), [("stop", True, 2), ("snapshot", False, 2), ("none", False, 0)]
)
def test_signal_effects(
    caffe: Caffe,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    effect: str,
    stops: bool,
    saves: int,
) -> None:
    """The signal comes while the first iteration runs, which asks for no snapshot of its own."""
    replace("solver.prototxt", "snapshot: 2", f"snapshot_after_train: {str(stops).lower()}")
    iterate = Solver._iterate

    def interrupted(self: Solver) -> None:
        if self.iteration == 0:
            os.kill(os.getpid(), signal.SIGHUP)
        iterate(self)

    monkeypatch.setattr(Solver, "_iterate", interrupted)
    run = caffe(*SOLVER, "-sighup_effect", effect)
    assert run.code == 0
    assert ("Optimization stopped early." in run.messages("I")) is stops
    assert len(snapshots()) == saves
    if saves:
        assert snapshots() == names(1)


def interrupted_by(monkeypatch: pytest.MonkeyPatch, act: Callable[[Solver], object]) -> None:
    """Let a run do something when its second iteration begins."""
    iterate = Solver._iterate

    def acted(self: Solver) -> None:
        if self.iteration == 1:
            act(self)
        iterate(self)

    monkeypatch.setattr(Solver, "_iterate", acted)


@pytest.mark.usefixtures("workspace")
def test_sigint_after_other_processes_have_stopped_the_run(
    caffe: Caffe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher sends it to one after the other; they may agree to stop before the last has it."""

    def act(solver: Solver) -> None:
        solver.requests.stop = True
        os.kill(os.getpid(), signal.SIGINT)

    interrupted_by(monkeypatch, act)
    run = caffe(*SOLVER)
    assert run.code == 0
    assert "Optimization stopped early." in run.messages("I")


@pytest.mark.usefixtures("workspace")
def test_a_second_sigint_ends_the_run_at_once(
    caffe: Caffe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(_: Solver) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    interrupted_by(monkeypatch, act)
    assert caffe(*SOLVER).code == INTERRUPTED
    assert snapshots() == []


@pytest.mark.usefixtures("workspace")
def test_a_sigterm_that_came_before_the_run_listens(caffe: Caffe) -> None:
    early = Noted()
    before = signal.signal(signal.SIGTERM, early)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert caffe(*SOLVER).code == REQUEUE
        assert signal.getsignal(signal.SIGTERM) is early
    finally:
        signal.signal(signal.SIGTERM, before)


def test_how_to_resume() -> None:
    assert how_to_resume("my solver.prototxt", 7, ["a.solverstate", "b c.solverstate"]) == (
        "Stopped at iteration 7. To go on:"
        " caffe train --solver='my solver.prototxt' --snapshot='b c.solverstate'"
    )
    assert "no snapshot" in how_to_resume("s.prototxt", 7, [])
