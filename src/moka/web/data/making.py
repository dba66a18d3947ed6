"""Data sets that are being made: `caffe make_data` processes, each with a log and a note."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moka.data.fit_size import FITS
from moka.errors import UsageError
from moka.tools.make_data import SUMMARY
from moka.web.answers import number, wanted, whole
from moka.web.folder import Folder
from moka.web.processes import Process, leave, process_of, start_caffe

NOTES = ".moka/making"
MOST_SIDE = 8192  # pixels
_TOTAL = re.compile(r"Dividing (\d+) images")
_DONE = re.compile(r"Processed (\d+) files|A total of (\d+) images")
_ERROR = re.compile(r"^[EF]\d{4} .*?\] (.*)")


def arguments(folder: Folder, values: Mapping[str, Any]) -> list[str]:
    """What stands after `caffe` to make a data set.

    Raises:
        UsageError: a name or number that cannot be.
    """
    source, target = wanted(values, "source"), wanted(values, "target").rstrip("/")
    folder.existing(source)
    if target.startswith(("-", ".")) or folder.inside(target).exists():
        raise UsageError(f"{target} is there already, or is no name for a data set.")
    words = ["make_data", folder.spelled(source), folder.spelled(target)]
    mode = str(values.get("resize_mode") or "squash")
    if mode not in FITS:
        raise UsageError(f"resize_mode has to be one of {', '.join(FITS)}, got {mode}.")
    height, width = (
        whole(values, f"resize_{side}", 0, 0, MOST_SIDE) for side in ("height", "width")
    )
    if bool(height) != bool(width):
        raise UsageError("height and width go together.")
    if height:
        words += [f"--resize_height={height}", f"--resize_width={width}", f"--resize_mode={mode}"]
    words.append(f"--test={number(values, 'test', 20.0):g}")
    words.append(f"--seed={whole(values, 'seed', 0)}")
    if values.get("gray"):
        words.append("--gray")
    if encoding := str(values.get("encode_type") or ""):
        if not encoding.isalnum():
            raise UsageError(f"encode_type cannot be {encoding}.")
        words.append(f"--encode_type={encoding}")
    if values.get("backend") == "leveldb":
        words.append("--backend=leveldb")
    if root := str(values.get("root") or ""):
        folder.existing(root)
        words.append(f"--root={folder.spelled(root)}")
    return words


class Makers:
    """The processes that make data sets."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.notes = folder.path / NOTES
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Go; what is being made goes on."""
        leave(self._children.values())

    def start(self, values: Mapping[str, Any]) -> str:
        """Start to make a data set; returns the word by which it is known."""
        words = arguments(self.folder, values)
        if words[1].startswith("-"):
            raise UsageError("a source cannot begin with a dash.")
        self.notes.mkdir(parents=True, exist_ok=True)
        word = f"{time.time_ns()}"
        with self._lock, open(self.notes / f"{word}.log", "wb") as log:
            child = start_caffe(words, self.folder.path, log)
            self._children[word] = child
            process = process_of(child.pid)
        note = {
            "target": str(values["target"]).rstrip("/"),
            "source": str(values["source"]),
            "shell": f"cd {shlex.quote(str(self.folder.path))} && caffe {shlex.join(words)}",
            "started": time.time(),
            "pid": process.pid,
            "began": process.began,
        }
        (self.notes / f"{word}.json").write_text(json.dumps(note))
        return word

    def all(self) -> list[dict[str, Any]]:
        """What is being made, or could not be; what is complete is a data set instead."""
        self._reap()
        found = [self._state(path) for path in sorted(self.notes.glob("*.json"))]
        return [each for each in found if each is not None and each["status"] != "done"]

    def state(self, word: str) -> dict[str, Any]:
        """How far one is. Raises UsageError if there is none."""
        self._reap()
        found = self._state(self._note(word))
        if found is None:
            raise UsageError("there is no such data set being made.")
        return found

    def stop(self, word: str) -> None:
        """End one, or put away the note of one that failed."""
        path = self._note(word)
        note = self._read(path)
        if note is None:
            return
        process = Process(note["pid"], note["began"])
        if process.is_running():
            process.send(signal.SIGTERM)
            child = self._children.get(word)
            try:
                if child is not None:
                    child.wait(5)
            except subprocess.TimeoutExpired:
                process.send(signal.SIGKILL)
            target = self.folder.inside(note["target"])
            if target.is_dir() and not (target / SUMMARY).exists():
                shutil.rmtree(target, ignore_errors=True)
        for end in (".json", ".log"):
            path.with_suffix(end).unlink(missing_ok=True)

    def _note(self, word: str) -> Path:
        if not word.isdecimal():
            raise UsageError("there is no such data set being made.")
        return self.notes / f"{word}.json"

    def _reap(self) -> None:
        with self._lock:
            ended = [word for word, child in self._children.items() if child.poll() is not None]
            for word in ended:
                del self._children[word]

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            note: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return note

    def _state(self, path: Path) -> dict[str, Any] | None:
        note = self._read(path)
        if note is None:
            return None
        try:
            log = path.with_suffix(".log").read_text(errors="replace")
        except OSError:
            log = ""
        done, total, error = told(log)
        running = Process(note["pid"], note["began"]).is_running()
        complete = (self.folder.inside(note["target"]) / SUMMARY).exists()
        status = "running" if running else "done" if complete else "failed"
        return {
            "id": path.stem,
            "target": note["target"],
            "source": note["source"],
            "shell": note["shell"],
            "started": note["started"],
            "status": status,
            "done": done,
            "total": total,
            "error": error if status == "failed" else "",
        }


def told(log: str) -> tuple[int, int | None, str]:
    """Images done, of how many, and the last error line of a maker's log."""
    total, before, now, error = None, 0, 0, ""
    for line in log.splitlines():
        if found := _TOTAL.search(line):
            total = int(found[1])
        elif found := _DONE.search(line):
            if found[2]:  # the next database begins
                before, now = before + now, 0
            else:
                now = int(found[1])
        elif found := _ERROR.match(line):
            error = found[1]
    done = before + now
    return (min(done, total) if total is not None else done), total, error
