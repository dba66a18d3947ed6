"""Whole runs under PyTorch's launcher: `caffe train --workers`, and torchrun."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import workspace
from tests.launches import free_port
from tests.training_runs import RANDOM, database

from moka.parallel.launch import REQUEUE

__all__ = ["database", "workspace"]

PATIENCE_S = 180.0  # for a run; only a failure waits that long
SOLVER = """
net: "net.prototxt" base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" random_seed: 5
max_iter: {iterations} snapshot: 20 snapshot_keep: 3 snapshot_prefix: "snap" solver_mode: CPU
display: 10 snapshot_after_train: true
"""
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


class Job:
    """A launcher in a session of its own, and its log."""

    def __init__(self, *argv: str, log: Path) -> None:
        self._log = log
        with log.open("w") as out:
            self._launcher = subprocess.Popen(
                [sys.executable, "-m", *argv],
                stdout=out,
                stderr=out,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def workers(self) -> list[int]:
        """The process ids of the workers, in the order in which they were started."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[1]) == self._launcher.pid and fields[0] != "Z":
                    found.append(int(entry.name))
        return sorted(found)

    def wait_for(self, pattern: str, times: int = 1) -> None:
        end = time.monotonic() + PATIENCE_S
        while len(re.findall(pattern, self.log)) < times:
            assert self._launcher.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        self._launcher.send_signal(number)

    def end(self) -> int:
        return self._launcher.wait(PATIENCE_S)

    def kill(self) -> None:
        self._launcher.kill()
        self._launcher.wait()


@contextmanager
def job(*argv: str, log: str = "log") -> Iterator[Job]:
    """Run a module; afterwards nothing of it is left, or the test fails."""
    started = Job(*argv, log=Path(log))
    ever: set[int] = set()
    try:
        yield started
        ever.update(started.workers())
    finally:
        ever.update(started.workers())
        started.kill()
        end = time.monotonic() + 20
        while (alive := [pid for pid in ever if is_alive(pid)]) and time.monotonic() < end:
            time.sleep(0.1)
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
        assert not alive


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def train(*more: str, workers: int = 2) -> tuple[str, ...]:
    flags = (f"--workers={workers}", "--patience=5", *more)
    return ("moka", "train", "--solver=solver.prototxt", *flags)


@pytest.fixture
def run_folder(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """solver.prototxt, and a net with crops, mirrors and dropout."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(RANDOM)
    Path("solver.prototxt").write_text(SOLVER.format(iterations=400))
    return tmp_path


def final_files(iterations: int) -> list[bytes]:
    kinds = ("caffemodel", "solverstate")
    return [Path(f"snap_iter_{iterations}.{kind}").read_bytes() for kind in kinds]


def forget_snapshots() -> None:
    for path in Path().glob("snap_iter_*"):
        path.unlink()


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
        r"Process \d of 2 \(number \d+ on .*\) has given no sign of life for 5 s\.", disturbed.log
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
        r"Process 1 of 2 \(number \d+\) has stood still for 5 s at .*threading\.py:\d+\.",
        disturbed.log,
    )
    assert disturbed.log.count("All start again from the last snapshot") == 1
    assert final_files(100) == wanted


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_twenty_processes_are_killed_at_random() -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=4000))
    with job(*train(workers=3)) as undisturbed:
        assert undisturbed.end() == 0, undisturbed.log
    wanted = final_files(4000)
    forget_snapshots()
    moments = random.Random(11)
    with job(*train("--max_restarts=100", workers=3)) as disturbed:
        for kill in range(20):
            disturbed.wait_for("Starting Optimization", kill + 1)
            time.sleep(moments.uniform(0, 1))
            workers = disturbed.workers()
            if not workers:
                break
            os.kill(moments.choice(workers), signal.SIGKILL)
            disturbed.wait_for(rf"last snapshot \({kill + 1} of 100\)")
        assert disturbed.end() == 0, disturbed.log
    assert disturbed.log.count("was ended by SIGKILL") == 20
    assert final_files(4000) == wanted


@pytest.mark.usefixtures("run_folder")
def test_a_process_lost_too_often_ends_the_run() -> None:
    with job(*train("--max_restarts=0")) as lost:
        lost.wait_for("Snapshotting solver state")
        os.kill(lost.workers()[0], signal.SIGKILL)
        assert lost.end() == 1, lost.log
    assert "was ended by SIGKILL. All have been started again 0 times, the limit." in lost.log
    assert "Go on from the last snapshot with --snapshot=auto." in lost.log


@pytest.mark.usefixtures("run_folder")
def test_sigterm_saves_and_asks_for_another_run() -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=1000000))
    with job(*train()) as preempted:
        preempted.wait_for("Snapshotting solver state")
        preempted.signal(signal.SIGTERM)
        assert preempted.end() == REQUEUE, preempted.log
    stopped = re.search(r"Stopped at iteration (\d+)\. To go on: .*", preempted.log)
    assert stopped
    assert Path(f"snap_iter_{stopped[1]}.solverstate").exists()


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


@pytest.mark.usefixtures("run_folder")
def test_two_machines_meet_by_torchrun() -> None:
    """Two launchers, one process each, in two folders."""
    Path("solver.prototxt").write_text(SOLVER.format(iterations=40))
    flags = (
        "--nnodes=2",
        "--nproc-per-node=1",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{free_port()}",
        "--rdzv-id=two",
        "--local-addr=127.0.0.1",
        "-m",
        "moka",
        "train",
        "--solver=solver.prototxt",
    )
    with (
        job("torch.distributed.run", *flags) as first,
        job("torch.distributed.run", *flags, log="second_log") as second,
    ):
        assert first.end() == 0, first.log
        assert second.end() == 0, second.log
    logs = sorted((first.log, second.log), key=len)
    assert "Optimization Done." in logs[1]
    assert not [line for line in logs[0].splitlines() if "solver.py" in line]
    theirs = final_files(40)
    forget_snapshots()
    with job(*train()) as ours:
        assert ours.end() == 0, ours.log
    assert final_files(40) == theirs
