"""Starts and stops jobs: a few at a time, the others wait for their turn."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from moka.errors import MokaError, UsageError
from moka.web.folder import Folder
from moka.web.jobs.job import LOG, Job, read_job
from moka.web.jobs.logs import JOB
from moka.web.processes import leave, process_of, start_caffe

TRASH = ".moka/trash"
LOOK_EVERY_S = 0.5  # whether a process has ended
STOPS = {
    "save": signal.SIGTERM,  # saves, and ends with exit code 75
    "now": signal.SIGKILL,
    "snapshot": signal.SIGHUP if hasattr(signal, "SIGHUP") else signal.SIGTERM,  # goes on
}


class Runner:
    """The jobs of a folder.

    Args:
        folder: jobs lie in its folder `jobs`, each process runs in it.
        at_once: how many train at the same time.
    """

    def __init__(self, folder: Folder, at_once: int = 1) -> None:
        self.folder = folder
        self.at_once = at_once
        self._jobs: dict[str, Job] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.RLock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Learn of the jobs that are there, and start those that wait."""
        jobs = self.folder.path / "jobs"
        for place in sorted(jobs.iterdir()) if jobs.is_dir() else ():
            if (place / JOB).exists() and not place.is_symlink():
                try:
                    self.add(read_job(place))
                except MokaError:
                    continue  # its page says so
        self._thread = threading.Thread(target=self._work, name="moka jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Start no more. Those that run go on."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        leave(self._children.values())

    def name(self, job: Job) -> str:
        """The name of its run: its folder."""
        return self.folder.name(job.folder)

    def add(self, job: Job) -> None:
        """A job that was made."""
        with self._lock:
            self._jobs[self.name(job)] = job

    def job(self, name: str) -> Job:
        """A job by its name. Raises UsageError if there is none."""
        with self._lock:
            if name not in self._jobs:
                raise UsageError(f"there is no job {name}.")
            return self._jobs[name]

    def jobs(self) -> dict[str, Job]:
        """All jobs by name."""
        with self._lock:
            return dict(self._jobs)

    def wait_for_turn(self, job: Job, start: list[str]) -> None:
        """Let a job begin, or go on, as soon as it is its turn.

        Args:
            start: flags of `caffe train` beside those of every job.

        Raises:
            UsageError: it is running, or waits already.
        """
        with self._lock:
            if job.waiting or job.is_running():
                raise UsageError(f"{job.title} is running or waiting already.")
            job.start, job.waiting, job.exit_code = start, True, None
            job.save()
        self.look()

    def stop(self, job: Job, how: str) -> None:
        """Stop a job: "save" a snapshot first, or "now"; or only save a "snapshot".

        Raises:
            UsageError: it is not running; another word.
        """
        if how not in STOPS:
            raise UsageError(f"how to stop has to be one of {', '.join(STOPS)}, got {how}.")
        with self._lock:
            if job.waiting and how != "snapshot":
                job.waiting = False
                job.save()
                return
            if job.process is None or not job.is_running():
                raise UsageError(f"{job.title} is not running.")
            job.process.send(STOPS[how])

    def rename(self, job: Job, title: str) -> None:
        """Give a job another title."""
        with self._lock:
            job.title = title
            job.save()

    def remove(self, job: Job) -> str:
        """Put a job aside. Returns a word with which `restore` brings it back.

        Raises:
            UsageError: it is running.
        """
        with self._lock:
            if job.is_running():
                raise UsageError(f"{job.title} is running: stop it first.")
            job.waiting = False
            job.save()
            trash = self.folder.path / TRASH
            trash.mkdir(parents=True, exist_ok=True)
            word = f"{time.time_ns()}-{job.folder.name}"
            shutil.move(job.folder, trash / word)
            self._jobs.pop(self.name(job), None)
            return word

    def restore(self, word: str) -> Job:
        """Bring back a job that was removed.

        Raises:
            UsageError: there is none, or another has taken its place.
        """
        aside = self.folder.inside(f"{TRASH}/{word}")
        target = self.folder.path / "jobs" / word.partition("-")[2]
        if "/" in word or not (aside / JOB).exists():
            raise UsageError("there is no such job to bring back.")
        if target.exists():
            raise UsageError(f"{self.folder.name(target)} is taken by another job.")
        with self._lock:
            shutil.move(aside, target)
            job = read_job(target)
            self.add(job)
            return job

    def look(self) -> None:
        """Note which processes have ended, and start jobs whose turn it is."""
        with self._lock:
            for name, child in list(self._children.items()):
                code = child.poll()
                if code is not None:
                    del self._children[name]
                    if name in self._jobs:
                        self._jobs[name].exit_code = code
                        self._jobs[name].save()
            running = sum(job.is_running() for job in self._jobs.values())
            waiting = sorted(
                (job for job in self._jobs.values() if job.waiting), key=lambda job: job.created_s
            )
            for job in waiting[: max(0, self.at_once - running)]:
                self._start(job)

    def _start(self, job: Job) -> None:
        before = self._children.pop(self.name(job), None)
        if before is not None:  # its last threads are ending
            before.wait()
        with open(job.folder / LOG, "ab") as log:
            child = start_caffe(job.arguments(self.folder.path), self.folder.path, log)
        self._children[self.name(job)] = child
        job.process, job.waiting = process_of(child.pid), False
        job.save()

    def _work(self) -> None:
        while not self._end.is_set():
            self.look()
            self._end.wait(LOOK_EVERY_S)


def error_tail(folder: Path) -> str:
    """The last error line of a job's log, without glog's head; "" if there is none."""
    try:
        with open(folder / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 65536))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if line.startswith(("F", "E")) and "] " in line:
            return line.partition("] ")[2]
    return ""
