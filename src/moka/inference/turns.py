"""Which of several functions is faster on this machine: measured in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter, process_time, sleep

Function = Callable[[], object]

FEWEST, MOST = 2, 7  # rounds
CLEARLY = 1.25  # times faster: no further round
ENOUGH_S = 1.0  # no further round either
TURN_S = 0.015
REST_S, MOST_REST_S = 0.004, 0.06


def seconds_in_turns(functions: Sequence[Function]) -> list[float]:
    """The seconds of a call of each: the median of a turn, and of the turns the least.

    What else the machine does changes from second to second, so they take turns, until one is
    clearly ahead or it has taken long. A turn begins when the threads of the one before have gone
    to sleep: ONNX Runtime's wait in a loop for 30 ms after a call, and take a processor from
    whoever comes next.
    """
    found: list[list[float]] = [[] for _ in functions]
    end = perf_counter() + ENOUGH_S
    for done in range(1, MOST + 1):
        for function, times in zip(functions, found, strict=True):
            _rest()
            times.append(_turn(function))
        first, second, *_ = sorted(map(min, found))
        if done >= FEWEST and (second > CLEARLY * first or perf_counter() > end):
            break
    return list(map(min, found))


def _turn(function: Function) -> float:
    """The median of calls in a row; the first of several, which wakes the threads, is left out."""
    times: list[float] = []
    end = perf_counter() + TURN_S
    while (start := perf_counter()) < end or not times:
        function()
        times.append(perf_counter() - start)
    return median(times[1:] or times)


def _rest() -> None:
    """Wait until no thread of this process computes; not for long, for one may be the user's."""
    end = perf_counter() + MOST_REST_S
    while perf_counter() < end:
        before = process_time()
        sleep(REST_S)
        if process_time() - before < REST_S / 10:
            break
