"""Whether other programs want the processors that this thread computes on."""

from __future__ import annotations

from time import perf_counter

from moka.two_ways import Clock

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # only Linux tells it of a thread

    def _preemptions() -> int | None:
        return None
else:

    def _preemptions() -> int | None:
        return getrusage(RUSAGE_THREAD).ru_nivcsw


OFTEN = 10.0  # a second


class Pressure:
    """Counts how often the system has taken the processor from this thread to give it to others:
    some times a second on a quiet machine, 30 to 300 times beside as many busy programs as there
    are processors. Where the system does not tell, pressure is always felt.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Clock = perf_counter) -> None:
        self._clock = clock
        self._since, self._before = clock(), _preemptions()
        self._was_often = False

    def is_felt(self) -> bool:
        """Whether it happened often since the last question, and before that, too: what is over in
        a moment is worth no trial."""
        now, count = self._clock(), _preemptions()
        since, before = self._since, self._before
        self._since, self._before = now, count
        if count is None or before is None:
            return True
        was_often, self._was_often = self._was_often, count - before > OFTEN * (now - since)
        return was_often and self._was_often
