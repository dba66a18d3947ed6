"""Signs of life: how processes that train together notice that one of them hangs.

Each tells a count to a common store once a second, from a thread of its own. A process that is
stopped, or whose machine is gone, counts no further. The next one in the order of rank notices, and
all end, so that their launcher can start them again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from moka.parallel.team import TEAM_LOST

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger("moka.team")

INTERVAL_S = 1.0
LOST = "lost"  # the key under which whoever notices writes


class SignsOfLife:
    """While it is entered, this process gives signs and watches the one before it.

    It ends this process (exit code TEAM_LOST) when another one hangs, or when the launcher is gone.

    Args:
        store: of the group, used by nobody else in this process.
        rank, size: which member this is.
        patience_s: how long a process may give no sign.
    """

    def __init__(self, store: Store, rank: int, size: int, *, patience_s: float) -> None:
        self._store = store
        self._rank = rank
        self._size = size
        self._watched = (rank - 1) % size
        self._interval_s = min(INTERVAL_S, patience_s / 4)
        self._limit = max(2, round(patience_s / self._interval_s))
        self._parent = os.getppid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)

    def __enter__(self) -> Self:
        self._store.set(f"who/{self._rank}", f"{socket.gethostname()} {os.getpid()}")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(RuntimeError):
            self._store.set(f"done/{self._rank}", "yes")

    def _run(self) -> None:
        # Counts own turns instead of seconds: if the whole machine was suspended, nobody hangs.
        count, turns = -1, 0
        while not self._stop.wait(self._interval_s):
            if os.getppid() != self._parent:
                self._end()
            try:
                self._store.add(f"sign/{self._rank}", 1)
                if self._store.check([LOST]):
                    self._end()
                now = self._store.add(f"sign/{self._watched}", 0)
                turns = 0 if now != count else turns + 1
                count = now
                if turns >= self._limit and not self._store.check([f"done/{self._watched}"]):
                    self._give_up()
            except RuntimeError:  # the store is gone, and with it who hosted it
                if not self._stop.is_set():
                    self._end()

    def _give_up(self) -> None:
        """Name the process that hangs, end it if it is on this machine, and end."""
        who = self._store.get(f"who/{self._watched}").decode()
        host, pid = who.rsplit(" ", 1)
        self._store.set(LOST, who)
        log.error(
            "Process %d of %d (number %s on %s) has given no sign of life for %g s.",
            self._watched,
            self._size,
            pid,
            host,
            self._limit * self._interval_s,
        )
        if host == socket.gethostname():
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        os._exit(TEAM_LOST)  # the main thread may wait for ever
