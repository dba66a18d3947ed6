"""Choose between two ways to do the same work, again and again, by the time that it took.

What is faster may depend on what other programs do on the machine at the moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

TRY_EVERY_S = 3.0  # of work; idle time brings no trial nearer
TRY_EVERY_S_AT_LAST = 60.0  # while trials gain nothing and nothing changes
TRIAL_S = 0.2  # some turns of the system's scheduler
HOPELESS = 3.0  # times as slow as usual: a trial ends at once
GROUP_S = 0.005  # shorter pieces are counted together: the counting takes some us
CLEARLY = 0.9  # of the usual time; a smaller gain changes nothing
CHANGED = 1.25  # times slower or faster than at the last trial: something else may be best now

Clock = Callable[[], float]


@dataclass
class _Group:
    """Pieces of work, and the seconds that they took."""

    seconds: float = 0.0
    pieces: int = 0

    @property
    def each_s(self) -> float:
        return self.seconds / self.pieces

    def add(self, other: _Group, sign: int = 1) -> None:
        self.seconds += sign * other.seconds
        self.pieces += sign * other.pieces


class TwoWays:
    """Says which of two ways to take next: 0, from which it begins, or 1.

    Every few seconds of work some pieces of it go the other way. It stays if they took clearly less
    time than those just before them. A trial costs at most some 7 % of the time; if it gains
    nothing, the next one comes twice as late, unless pieces take another time than before.

    Args:
        may_try: asked when it is time to try way 1.

    Attributes:
        way: of the next piece of work.
    """

    def __init__(self, may_try: Callable[[], bool] = lambda: True) -> None:
        self.way = 0
        self._may_try = may_try
        self._worked_s = 0.0
        self._group = _Group()  # of pieces that have just gone the usual way
        self._usual: deque[_Group] = deque()  # the last groups of such pieces
        self._usual_sum = _Group()
        self._trial: _Group | None = None  # pieces of a trial, without the first, which warms up
        self._is_warm = False
        self._asked_at = self._tried_at = 0.0  # seconds of work
        self._pause_s = TRY_EVERY_S
        self._piece_s = 0.0  # that a usual piece took at the last trial

    def took(self, seconds: float) -> None:
        """Tell how long a piece of work has taken, and choose the way of the next one."""
        if self._trial is not None:
            self._worked_s += seconds
            if self._is_warm:
                self._trial.add(_Group(seconds, 1))
                self._end_trial(self._worked_s, self._trial)
            self._is_warm = True
            return
        group = self._group
        group.seconds += seconds
        group.pieces += 1
        if group.seconds < GROUP_S:
            return
        self._worked_s += group.seconds
        now = self._worked_s
        self._usual.append(group)
        self._usual_sum.add(group)
        while self._usual_sum.seconds - self._usual[0].seconds > TRIAL_S:
            self._usual_sum.add(self._usual.popleft(), -1)
        self._group = _Group()
        if now - self._asked_at > TRY_EVERY_S:
            self._asked_at = now
            if self._is_time(now) and (self.way == 1 or self._may_try()):
                self._trial, self._is_warm = _Group(), False
                self.way = 1 - self.way

    def _is_time(self, now: float) -> bool:
        piece_s = self._usual_sum.each_s
        has_changed = not self._piece_s / CHANGED < piece_s < self._piece_s * CHANGED
        return has_changed or now - self._tried_at > self._pause_s

    def _end_trial(self, now: float, trial: _Group) -> None:
        """End the trial if it has shown enough."""
        each_s, usual_s = trial.each_s, self._usual_sum.each_s
        if trial.seconds < TRIAL_S and each_s < HOPELESS * usual_s:
            return
        self._piece_s = usual_s
        self._pause_s = min(2 * self._pause_s, TRY_EVERY_S_AT_LAST)
        if each_s < CLEARLY * usual_s:
            self._usual_sum, self._usual = replace(trial), deque([trial])
            self._piece_s, self._pause_s = each_s, TRY_EVERY_S
        else:
            self.way = 1 - self.way
        self._trial, self._asked_at, self._tried_at = None, now, now
