"""How fast each of several processes works, and which one holds up the others."""

from __future__ import annotations

import logging
import socket
import time
from statistics import median_low
from typing import NamedTuple

from moka.parallel.team import Team

log = logging.getLogger("moka")

SLOW = 1.5  # times the median
DISPLAYS = 3  # in a row, until a process is named


class Slowest(NamedTuple):
    """The process whose own work takes longest, in seconds an iteration, and the median of all.

    `host` is the name of its machine.
    """

    rank: int
    host: str
    own_s: float
    median_s: float


class Pace:
    """Measures a process's own work: the time of its iterations without waiting for others.

    All processes of a team go at the pace of the slowest one, so the whole time tells nothing. Of
    an even number of processes the median is the lower of the two in the middle.

    Args:
        team: the processes.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self._hosts: dict[int, str] = {}
        self._began = self._waited = 0.0
        self._own_s, self._iterations = 0.0, 0
        self._slow, self._in_a_row = -1, 0

    def start(self) -> None:
        """An iteration begins."""
        self._began, self._waited = time.perf_counter(), self.team.waited_s

    def stop(self) -> None:
        """Its update is made."""
        waited = self.team.waited_s - self._waited
        self._own_s += time.perf_counter() - self._began - waited
        self._iterations += 1

    def compare(self) -> Slowest | None:
        """The slowest process since the last call; all processes call this alike.

        One that has been slow in several calls in a row is named in the log.
        """
        if not self.team.is_connected:
            return None
        if not self._hosts:
            told = self.team.gather_messages(socket.gethostname().encode())
            self._hosts = {rank: name.decode() for rank, name in told.items()}
        own_s = self._own_s / max(1, self._iterations)
        self._own_s, self._iterations = 0.0, 0
        times = {rank: s for rank, (s,) in self.team.gather_numbers(own_s).items()}
        rank = max(times, key=lambda rank: times[rank])
        found = Slowest(rank, self._hosts[rank], times[rank], median_low(times.values()))
        self._name(found)
        return found

    def _name(self, found: Slowest) -> None:
        is_slow = found.own_s > SLOW * found.median_s
        is_same = is_slow and found.rank == self._slow
        self._slow = found.rank if is_slow else -1
        self._in_a_row = self._in_a_row + 1 if is_same else int(is_slow)
        if self._in_a_row == DISPLAYS and self.team.is_first:
            log.warning(
                "Process %d of %d (on %s) holds up the others: it works %.3g s an iteration, the"
                " median is %.3g s.",
                found.rank,
                self.team.size,
                *found[1:],
            )
