"""Processes that outlive the server: known by their number and the moment they began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Process:
    """A process of this machine.

    Attributes:
        pid: its number.
        began: when it began, in the system's own count; "" where there is none. A process of the
            same number that began at another time is another one.
    """

    pid: int
    began: str = ""

    def is_running(self) -> bool:
        """Whether it is still there, and not only waited for."""
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            return True
        except OSError:
            return False
        fields = _fields(self.pid)
        return not fields or (fields[0] != "Z" and self.began in ("", fields[19]))

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is still running."""
        if self.is_running():
            os.kill(self.pid, number)

    def cpu_s(self) -> float | None:
        """Seconds of processor time so far; None where the system does not tell."""
        fields = _fields(self.pid)
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS if fields else None

    def memory_bytes(self) -> int | None:
        """Memory that it holds; None where the system does not tell."""
        fields = _fields(self.pid)
        return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else None


def process_of(pid: int) -> Process:
    """A process that is running now."""
    fields = _fields(pid)
    return Process(pid, fields[19] if fields else "")


def start_caffe(
    arguments: Sequence[str], folder: Path, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start `caffe ...` in a session of its own, which signals to this server do not reach.

    Args:
        arguments: what stands after `caffe`.
        folder: where it runs.
        output: takes its standard output and error.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "moka", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def leave(children: Iterable[subprocess.Popen[bytes]]) -> None:
    """Go without waiting for children that still run, which Python would warn of."""
    for child in children:
        if child.poll() is None:
            child.returncode = 0


def _fields(pid: int) -> list[str]:
    """What Linux tells of a process after its name: state, parent ...; empty elsewhere."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
