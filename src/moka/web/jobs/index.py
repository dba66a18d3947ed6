"""All runs of a folder, read in a thread of its own, so that no request waits for a long log."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from moka.web.folder import Folder
from moka.web.jobs.logs import JOB, LogFile, find_logs, looks_like_a_log, stamp_of

KEPT = ".moka/logs"
LOOK_EVERY_S = 5.0  # for new files
READ_EVERY_S = 0.5  # what has been added to known ones
PATIENCE_S = 0.1  # a request waits so long for the first look at the folder
LONGEST_WAIT_S = 10.0  # for a log that is asked for by its name
STILL_S = 60.0  # the thread rests this long after the last request


class RunIndex:
    """The logs of a folder, by the name of the run: the log's path, or the job's folder.

    Args:
        folder: what is looked through.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.changes = 0  # grows with each change
        self._logs: dict[str, LogFile] = {}
        self._no_logs: dict[Path, tuple[int, int]] = {}
        self._unread: list[LogFile] = []
        self._reading = 0  # whether one of them is being read
        self._lock = threading.Lock()  # of the tables
        self._finding = threading.Lock()
        self._looked = threading.Event()
        self._wake = threading.Event()
        self._end = threading.Event()
        self._asked = 0.0
        self._thread: threading.Thread | None = None

    def logs(self) -> dict[str, LogFile]:
        """What is known now; the thread goes on reading."""
        self._ask()
        self._looked.wait(PATIENCE_S)
        with self._lock:
            return dict(self._logs)

    def log(self, name: str) -> LogFile | None:
        """One log, waited for if it has been found but not read yet; None: there is none."""
        until = time.monotonic() + LONGEST_WAIT_S
        known = self.logs()
        if name not in known:
            self.look()
        while name not in known and time.monotonic() < until:
            waiting = self.unread or not self._looked.is_set()
            known = self.logs()
            if not waiting:
                break
            self._end.wait(0.05)
        return known.get(name)

    @property
    def unread(self) -> int:
        """How many logs have been found but not read yet."""
        return len(self._unread) + self._reading

    def look(self) -> None:
        """Look for new files at once, as after a job was made or removed."""
        self._find()
        self._ask()

    def close(self) -> None:
        """End the thread."""
        self._end.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def read(self) -> bool:
        """Read what has been added since. Returns whether anything has."""
        changed = False
        while self._unread and not self._end.is_set():
            self._reading = 1
            log = self._unread.pop()
            if not log.recall(self.folder.path / KEPT):
                log.update()
                log.remember(self.folder.path / KEPT)
            self._known(log)
            self._reading = 0
            changed = True
        with self._lock:
            known = list(self._logs.values())
        for log in known:
            changed |= log.update()
        self.changes += changed
        return changed

    def _known(self, log: LogFile) -> None:
        with self._lock:
            self._logs[self.run_name(log.path)] = log
            self.changes += 1

    def run_name(self, log: Path) -> str:
        """The name of the run that a log belongs to."""
        return self.folder.name(log.parent if (log.parent / JOB).exists() else log)

    def _find(self) -> None:
        with self._finding:
            self._find_files()
        self._looked.set()

    def _find_files(self) -> None:
        found = set()
        for path in find_logs(self.folder):
            found.add(path)
            if self._is_new(path):
                log = LogFile(path)
                if (path.parent / JOB).exists():
                    self._known(log)  # at once, though it may have written nothing yet
                self._unread.append(log)
        self._unread.sort(key=lambda log: _time(log.path))  # the newest is read first
        with self._lock:
            gone = [name for name, log in self._logs.items() if log.path not in found]
            for name in gone:
                del self._logs[name]
            self.changes += bool(gone)

    def _is_new(self, path: Path) -> bool:
        with self._lock:
            known = self.run_name(path) in self._logs
        if known or any(log.path == path for log in self._unread):
            return False
        if (path.parent / JOB).exists():
            return True
        try:
            stamp = stamp_of(path)
        except OSError:
            return False
        if self._no_logs.get(path) == stamp or not looks_like_a_log(path):
            self._no_logs[path] = stamp
            return False
        return True

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._wake.set()
        if self._thread is None and not self._end.is_set():
            self._thread = threading.Thread(target=self._work, name="moka logs", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        looked = -LOOK_EVERY_S
        while not self._end.is_set():
            now = time.monotonic()
            if now - self._asked > STILL_S:
                self._wake.clear()
                self._wake.wait()
                continue
            if now - looked >= LOOK_EVERY_S:
                self._find()
                looked = time.monotonic()
            self.read()
            self._end.wait(READ_EVERY_S)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
