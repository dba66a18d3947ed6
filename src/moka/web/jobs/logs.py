"""Training logs of a folder: found, read as far as they are written, and remembered.

What has been read is kept beside the folder's jobs, in .moka/logs, so that a server that is started
again does not read old logs twice. A file whose size or time differs is read anew.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from moka.files import write_atomically
from moka.report.log_file import LogReader, encoding_of
from moka.report.run_facts import Best, RunFacts, Saved
from moka.web.folder import Folder
from moka.web.jobs.curves import Curves, Series

JOB = "job.json"  # in the folder of a job
RECORDS = "run.jsonl"  # there: its records
_LOG_NAME = re.compile(r"\.(log|jsonl|out|err)$|\.log\.|\.INFO|^log.*\.txt$|log\.txt$", re.I)
_SIGNS = (b'{"record":', b"Iteration ", b"Solving ")
HEAD = 1 << 18  # bytes in which one of the signs has to be
CHUNK = 1 << 22
VERSION = 1  # of what is remembered


def find_logs(folder: Folder) -> Iterator[Path]:
    """Files whose names are a log's, and the records of jobs; a job's other logs are left out."""
    for place, entries in folder.walk():
        names = {entry.name for entry in entries}
        if JOB in names:
            yield place / RECORDS
            continue
        for entry in entries:
            if _LOG_NAME.search(entry.name) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def looks_like_a_log(path: Path) -> bool:
    """Whether the beginning of a file is a training log's."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD).replace(b"\0", b"")  # UTF-16
    except OSError:
        return False
    return any(sign in head for sign in _SIGNS)


class LogFile:
    """One log. `update` reads what has been added to it.

    Attributes:
        stamp: size and time of the file when it was read last.
        facts, curves: what it tells so far.
        lock: to be held while they are looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.stamp = (0, 0)
        self._begin()

    def _begin(self) -> None:
        self.facts, self.curves = RunFacts(), Curves()
        self._reader: LogReader | None = None
        self._offset, self._rest = 0, ""

    def update(self) -> bool:
        """Read on. Returns whether anything has changed; a file that is gone changes nothing."""
        try:
            now = stamp_of(self.path)
            if now == self.stamp:
                return False
            with self.lock:
                if now[0] < self._offset or self._reader is None:
                    self._begin()
                self._read_on(now)
        except OSError:
            return False
        self.stamp = now
        return True

    def _read_on(self, now: tuple[int, int]) -> None:
        if self._reader is None:
            self._reader = LogReader(datetime.fromtimestamp(now[1] / 1e9).year)
            self.facts = self._reader.facts
            self._decoder = codecs.getincrementaldecoder(encoding_of(self.path))("replace")
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            while data := file.read(CHUNK):
                self._offset += len(data)
                *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
                for line in lines:
                    self._reader.take(line)
                self.curves.add(*self._reader.take_readings())
        self._open_ends()

    def _open_ends(self) -> None:
        """Show the last readings too, though lines that follow may add to them: the next `add` of
        the same iteration takes their place."""
        assert self._reader is not None
        self.curves.add(*self._reader.last_readings())

    # --- what is remembered -----------------------------------------------------------------------

    def remember(self, folder: Path) -> None:
        """Keep what has been read in a folder; one that cannot be written keeps nothing."""
        columns = {}
        for i, series in enumerate(self.curves.values()):
            for name in ("iterations", "seconds", "values"):
                columns[f"{i}.{name}"] = np.array(getattr(series, name))
        names = [(series.name, series.kind) for series in self.curves.values()]
        head = {"version": VERSION, "stamp": self.stamp, "facts": asdict(self.facts)}
        text = json.dumps({**head, "names": names})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(
                folder / _key(self.path),
                lambda out: np.savez(out, head=np.array(text), **columns),  # type: ignore[arg-type]
            )
        except OSError:
            return

    def recall(self, folder: Path) -> bool:
        """Take what was remembered of the file as it is now. Returns whether there was any."""
        try:
            with np.load(folder / _key(self.path), allow_pickle=False) as kept:
                head = json.loads(str(kept["head"]))
                stamp = stamp_of(self.path)
                if head["version"] != VERSION or tuple(head["stamp"]) != stamp:
                    return False
                curves = Curves()
                for i, (name, kind) in enumerate(head["names"]):
                    series = curves[name] = Series(name, kind)
                    for column in ("iterations", "seconds", "values"):
                        getattr(series, column).frombytes(kept[f"{i}.{column}"].tobytes())
                facts = _facts(head["facts"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        with self.lock:
            self.curves, self.facts, self.stamp = curves, facts, stamp
        return True


def stamp_of(path: Path) -> tuple[int, int]:
    """A file's size in bytes and time in nanoseconds, which change when it is written."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:24] + ".npz"


def _facts(kept: dict[str, Any]) -> RunFacts:
    facts = RunFacts(**kept)
    facts.saved = [Saved(**each) for each in kept["saved"]]
    facts.best = Best(**kept["best"]) if kept["best"] else None
    return facts
