"""Whole runs under a launcher, each in a folder of its own, and what is left of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.training_runs import RANDOM

HEARD_S = 10  # until a process that gives no sign is lost; it may start that much later, too
PATIENCE_S = 180.0  # for a run; only a failure waits that long
SOLVER = """
net: "net.prototxt" base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" random_seed: 5
max_iter: {iterations} snapshot: 20 snapshot_keep: 3 snapshot_prefix: "snap" solver_mode: CPU
display: 10 snapshot_after_train: true
"""


class Job:
    """A launcher in a session of its own, and its log.

    Args:
        argv: a module and its arguments.
        within: words before Python's own: a command that runs another.
    """

    def __init__(self, *argv: str, log: Path, within: Sequence[str] = ()) -> None:
        self._log = log
        with log.open("w") as out:
            self._launcher = subprocess.Popen(
                [*within, sys.executable, "-m", *argv],
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

    def end(self, patience_s: float = PATIENCE_S) -> int:
        return self._launcher.wait(patience_s)

    def kill(self) -> None:
        self._launcher.kill()
        self._launcher.wait()


@contextmanager
def job(*argv: str, log: str = "log", within: Sequence[str] = ()) -> Iterator[Job]:
    """Run a module; afterwards nothing of it is left, or the test fails."""
    started = Job(*argv, log=Path(log), within=within)
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
    flags = (f"--workers={workers}", f"--patience={HEARD_S}", *more)
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
