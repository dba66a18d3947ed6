"""Signs of life: how processes that train together notice that one of them hangs.

Each tells a count to a common store once a second, from a thread of its own. A process that is
stopped, or whose machine is gone, counts no further; the next one in the order of rank notices. A
process whose main thread stands still while that thread goes on notices so itself. Whoever cannot
reach the store has lost the others. In each case all end, so that their launcher can start them
again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from moka.parallel.stillness import Stillness, place_of_main_thread
from moka.parallel.team import TEAM_LOST, Team

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger("moka.team")

INTERVAL_S = 1.0
STUCK_S = 1800.0  # how long all may wait for one another: a large message on a slow network
SAYING_S = 5.0  # how long a last sentence may take, if the log is stuck as well
LOST = "lost"  # the key under which whoever notices writes


class SignsOfLife:
    """While it is entered, this process gives signs and watches the one before it.

    It ends this process (exit code TEAM_LOST) when another one hangs or cannot be reached, when
    this one stands still, when all wait for one another, or when the launcher is gone.

    Args:
        store: of the group, used by nobody else in this process.
        team: the processes that train together.
        patience_s: how long a process may give no sign, or stand still.
    """

    def __init__(self, store: Store, team: Team, *, patience_s: float) -> None:
        self._store = store
        self._team = team
        self._watched = (team.rank - 1) % team.size
        self._interval_s = min(INTERVAL_S, patience_s / 4)
        self._limit = max(2, round(patience_s / self._interval_s))
        self._parent = os.getppid()
        self._turn = 0  # of the thread that gives signs
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("signs of life", self._give), ("watch", self._watch_oneself))
        ]

    def __enter__(self) -> Self:
        self._store.set(f"who/{self._team.rank}", f"{_machine()} {os.getpid()}")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(RuntimeError):
            self._store.set(f"done/{self._team.rank}", "yes")
            if error is None:
                self._watch_to_the_end()
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch_to_the_end(self) -> None:
        """Stay until all are ready: a process that still works wants to be watched."""
        done = [f"done/{rank}" for rank in range(self._team.size)]
        with self._team.waiting():
            while not self._store.check(done):
                time.sleep(0.05)

    def _give(self) -> None:
        """Give signs, and watch the process before this one; a thread."""
        # Counts own turns instead of seconds: if the whole machine was suspended, nobody hangs.
        still, waits = Turns(self._limit), Turns(round(STUCK_S / self._interval_s))
        while not self._stop.wait(self._interval_s):
            self._turn += 1
            try:
                self._store.add(f"sign/{self._team.rank}", 1)
                if self._store.check([LOST]):
                    self._end()
                still.see(self._store.add(f"sign/{self._watched}", 0))
                if still.are_many and not self._store.check([f"done/{self._watched}"]):
                    self._give_up()
                self._tell_of_waiting(waits)
            except RuntimeError:  # the store is gone, and with it who hosted it
                if not self._stop.is_set():
                    self._end()

    def _tell_of_waiting(self, waits: Turns) -> None:
        """Tell the others whether this process waits for them too long; end it if all do."""
        team = self._team
        waits.see(team.calls if team.is_waiting else None)
        self._store.set(f"waits/{team.rank}", "yes" if waits.are_many else "no")
        if waits.are_many:
            keys = [f"waits/{rank}" for rank in range(team.size)]
            if self._store.check(keys) and all(self._store.get(key) == b"yes" for key in keys):
                self._end(f"has waited {STUCK_S:g} s for the others, which wait as well.")

    def _watch_oneself(self) -> None:
        """Watch the main thread, the launcher, and the thread that gives signs; a thread."""
        stillness = Stillness(self._team, self._threads)
        unheard = Turns(self._limit)
        while not self._stop.wait(self._interval_s):
            if os.getppid() != self._parent:
                self._end()
            unheard.see(self._turn)
            if unheard.are_many:
                self._end("can no longer reach the others: the store of the group does not answer.")
            if stillness.look() >= self._limit:
                seconds = self._limit * self._interval_s
                self._end(f"has stood still for {seconds:g} s at {place_of_main_thread()}.")

    def _give_up(self) -> None:
        """Name the process that hangs, end it if it is on this machine, and end."""
        who = self._store.get(f"who/{self._watched}").decode()
        machine, pid = who.rsplit(" ", 1)
        self._store.set(LOST, who)
        log.error(
            "Process %d of %d (number %s on %s) has given no sign of life for %g s.",
            self._watched,
            self._team.size,
            pid,
            machine.partition(" ")[0],
            self._limit * self._interval_s,
        )
        if machine == _machine():
            with contextlib.suppress(OSError):
                os.kill(int(pid), getattr(signal, "SIGKILL", signal.SIGTERM))
        self._end()

    def _end(self, why: str = "") -> None:
        """End this process, whatever its main thread waits for; say why, if nobody else does."""
        if why:
            team = self._team
            text = f"Process {team.rank} of {team.size} (number {os.getpid()}) {why}"
            saying = threading.Thread(target=lambda: log.error("%s", text), daemon=True)
            saying.start()
            saying.join(SAYING_S)
        os._exit(TEAM_LOST)


class Turns:
    """Counts for how many turns in a row a number has stayed the same.

    Args:
        limit: how many are many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number: int | None = None
        self._count = 0

    def see(self, number: int | None) -> None:
        """Note the number of this turn; None is never the same."""
        self._count = self._count + 1 if number is not None and number == self._number else 0
        self._number = number

    @property
    def are_many(self) -> bool:
        return self._count >= self._limit


def _machine() -> str:
    """The name of this machine, and its table of processes: containers may share the name."""
    try:
        table = os.readlink("/proc/self/ns/pid")
    except OSError:
        table = "-"
    return f"{socket.gethostname()} {table}"
