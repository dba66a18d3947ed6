"""Whole runs under PyTorch's launcher: `caffe train --workers`, and torchrun."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.conftest import workspace
from tests.jobs import SOLVER, final_files, forget_snapshots, job, run_folder, train
from tests.training_runs import RANDOM, database
from torch.distributed.elastic.agent.server.api import RunResult, WorkerState

from moka.errors import INTERRUPTED
from moka.parallel.agent import _code_of
from moka.parallel.team import REQUEUE, TEAM_LOST

__all__ = ["database", "run_folder", "workspace"]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


@pytest.mark.parametrize(
    ("codes", "decides"),
    [
        ((-9, TEAM_LOST), TEAM_LOST),
        ((TEAM_LOST, 1), 1),
        ((REQUEUE, -15), REQUEUE),
        ((-2,), INTERRUPTED),
        ((0xC0000005, TEAM_LOST), TEAM_LOST),  # a crash on Windows
    ],
)
def test_the_exit_code_that_decides(codes: tuple[int, ...], decides: int) -> None:
    failures: Any = {rank: SimpleNamespace(exitcode=code) for rank, code in enumerate(codes)}
    assert _code_of(RunResult(WorkerState.FAILED, failures=failures)) == decides


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_lost_processes_cost_nothing_but_time() -> None:
    """One is killed and one hangs; the files are those of an undisturbed run, byte for byte."""
    with job(*train()) as undisturbed:
        assert undisturbed.end() == 0, undisturbed.log
    wanted = final_files(400)
    forget_snapshots()
    with job(*train()) as disturbed:
        disturbed.wait_for("Snapshotting solver state", 2)
        os.kill(disturbed.workers()[1], signal.SIGKILL)
        disturbed.wait_for("Resuming from snap_iter_")
        disturbed.wait_for(r"Iteration \d+, lr", 6)
        os.kill(disturbed.workers()[0], signal.SIGSTOP)
        disturbed.wait_for("Resuming from snap_iter_", 2)
        assert disturbed.end() == 0, disturbed.log
    assert "was ended by SIGKILL. All start again from the last snapshot (1 of 3)." in disturbed.log
    assert re.search(
        r"Process \d of 2 \(number \d+ on .*\) has given no sign of life for 10 s\.", disturbed.log
    )
    assert final_files(400) == wanted


STILL = """
import os, pathlib, threading
import caffe

class Still(caffe.Layer):
    passes = 0

    def setup(self, bottom, top):
        top[0].reshape(1)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        Still.passes += 1
        if Still.passes == 50 and os.environ["RANK"] == "1":
            try:
                pathlib.Path("was_still").touch(exist_ok=False)
            except FileExistsError:
                return
            threading.Event().wait()

    def backward(self, top, propagate_down, bottom):
        pass
"""
LAYER = """
layer { name: "still" type: "Python" bottom: "data" top: "still"
  python_param { module: "still" layer: "Still" } }
"""


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_a_process_that_stands_still_is_named_and_costs_nothing_but_time() -> None:
    """Its threads live, and it gives signs of life."""
    Path("net.prototxt").write_text(RANDOM + LAYER)
    Path("still.py").write_text(STILL)
    Path("solver.prototxt").write_text(SOLVER.format(iterations=100))
    Path("was_still").touch()
    with job(*train()) as undisturbed:
        assert undisturbed.end() == 0, undisturbed.log
    wanted = final_files(100)
    forget_snapshots()
    Path("was_still").unlink()
    with job(*train()) as disturbed:
        assert disturbed.end() == 0, disturbed.log
    assert re.search(
        r"Process 1 of 2 \(number \d+\) has stood still for 10 s at .*threading\.py:\d+\.",
        disturbed.log,
    )
    assert disturbed.log.count("All start again from the last snapshot") == 1
    assert final_files(100) == wanted


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_twenty_processes_are_killed_at_random() -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=4000))
    with job(*train(workers=3)) as undisturbed:
        assert undisturbed.end(900) == 0, undisturbed.log
    wanted = final_files(4000)
    forget_snapshots()
    moments = random.Random(11)
    with job(*train("--max_restarts=100", workers=3)) as disturbed:
        for kill in range(20):
            if kill % 2:  # the others while they start
                disturbed.wait_for("Starting Optimization", kill // 2 + 1)
            time.sleep(moments.uniform(0, 1 if kill % 2 else 3))
            while not (workers := disturbed.workers()):
                assert "Optimization Done" not in disturbed.log
                time.sleep(0.1)
            os.kill(moments.choice(workers), signal.SIGKILL)
            disturbed.wait_for(rf"last snapshot \({kill + 1} of 100\)")
        assert disturbed.end(900) == 0, disturbed.log
    assert disturbed.log.count("was ended by SIGKILL") == 20
    assert final_files(4000) == wanted


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_a_process_lost_too_often_ends_the_run() -> None:
    with job(*train("--max_restarts=1")) as lost:
        lost.wait_for("Snapshotting solver state")
        os.kill(lost.workers()[1], signal.SIGKILL)
        lost.wait_for("Resuming from snap_iter_")
        lost.wait_for(r"Iteration \d+, lr", 6)
        os.kill(lost.workers()[0], signal.SIGKILL)
        assert lost.end() == 1, lost.log
    assert "was ended by SIGKILL. All start again from the last snapshot (1 of 1)." in lost.log
    assert (
        "was ended by SIGKILL. All have been started again as often as --max_restarts=1 allows."
        in lost.log
    )
    assert "Go on from the last snapshot with --snapshot=auto." in lost.log


@pytest.mark.usefixtures("run_folder")
@pytest.mark.parametrize("target", ["launcher", pytest.param("a process", marks=pytest.mark.slow)])
def test_sigterm_saves_and_asks_for_another_run(target: str) -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=1000000))
    with job(*train()) as preempted:
        preempted.wait_for("Snapshotting solver state")
        if target == "launcher":
            preempted.signal(signal.SIGTERM)
        else:
            os.kill(preempted.workers()[1], signal.SIGTERM)
        assert preempted.end() == REQUEUE, preempted.log
    stopped = re.search(r"Stopped at iteration (\d+)\. To go on: .*", preempted.log)
    assert stopped
    assert Path(f"snap_iter_{stopped[1]}.solverstate").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_sigint_stops_as_in_one_process() -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=1000000))
    with job(*train()) as interrupted:
        interrupted.wait_for("Snapshotting solver state")
        interrupted.signal(signal.SIGINT)
        assert interrupted.end() == 0, interrupted.log
    assert "Stopped at iteration" in interrupted.log


@pytest.mark.usefixtures("run_folder")
def test_nobody_outlives_the_launcher() -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=1000000))
    with job(*train()) as orphaned:
        orphaned.wait_for("Snapshotting solver state")
        # `job` kills the launcher, and looks for its workers.


@pytest.mark.usefixtures("run_folder")
def test_an_error_of_the_users_is_told_once() -> None:
    Path("net.prototxt").write_text(RANDOM.replace('"db"', '"nowhere"'))
    with job(*train()) as failing:
        assert failing.end() == 1
    said = [line for line in failing.log.splitlines() if re.match("[WEF]", line)]
    assert len(said) == 1
    assert 'layer "data" (Data): No such file or directory.' in said[0]
    assert "start again" not in failing.log


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_torchrun_starts_the_same_run() -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=40))
    with job(*train()) as ours:
        assert ours.end() == 0, ours.log
    wanted = final_files(40)
    forget_snapshots()
    flags = ("--standalone", "--nproc-per-node=2", "-m", "moka", "train")
    with job("torch.distributed.run", *flags, "--solver=solver.prototxt") as theirs:
        assert theirs.end() == 0, theirs.log
    assert final_files(40) == wanted
