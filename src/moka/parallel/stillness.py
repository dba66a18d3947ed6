"""Whether the main thread of this process stands still, seen from another thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from moka.parallel.team import Team

BUSY = 0.02  # a process that uses less of a core does nothing
_THREADS = Path("/proc/self/task")


class Stillness:
    """Counts how long this process has done nothing though nobody keeps it waiting.

    A process that tests, saves or reads for long uses a processor or waits for a disk, or another
    program has the processor that it wants. One that stands still does none of this: it waits for
    a lock that nobody opens, or for a server that does not answer. One that waits for the other
    members of its team does not count.

    On systems without /proc nothing ever stands still.

    Args:
        team: the processes that train together.
        watching: threads that work whatever the others do.
    """

    def __init__(self, team: Team, watching: Sequence[threading.Thread] = ()) -> None:
        self._team = team
        self._watching = watching
        self._calls = team.calls
        self._used_s = time.process_time()
        self._seen_s = time.monotonic()
        self.turns = 0

    def look(self) -> int:
        """Look once more; returns for how many looks in a row nothing has happened."""
        calls, used_s, seen_s = self._team.calls, time.process_time(), time.monotonic()
        has_called = calls != self._calls or self._team.is_waiting
        is_busy = used_s - self._used_s > BUSY * (seen_s - self._seen_s)
        self._calls, self._used_s, self._seen_s = calls, used_s, seen_s
        others = {str(thread.native_id) for thread in self._watching}
        if has_called or is_busy or not _THREADS.is_dir() or any(map(_is_at_work, _states(others))):
            self.turns = 0
        else:
            self.turns += 1
        return self.turns


def place_of_main_thread() -> str:
    """`file.py:12`, the line of Python where the main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"


def _is_at_work(state: str) -> bool:
    return state in "RD"  # runs or wants to run; waits for a disk


def _states(leaving_out: Collection[str] = ()) -> Iterator[str]:
    """The state of each thread but this one and some others, as the kernel's letter."""
    left_out = {str(threading.get_native_id()), *leaving_out}
    for thread in _THREADS.iterdir():
        if thread.name not in left_out:
            try:
                yield (thread / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:  # it has ended
                continue
