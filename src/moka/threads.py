"""How many threads a step takes: all, or one while other programs want the processors.

PyTorch divides each operation among threads, which wait for each other at its end. On a machine
that other programs use too, the last thread of every small operation may have to wait for a
processor, and all others wait for it; then one thread is faster. Nobody can know beforehand, so the
time that steps take decides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from moka.two_ways import Clock, TwoWays

_USERS_CHOICE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")

_is_on = False


def choose_threads() -> None:
    """Let the solvers of this process that are made from now on choose, while they train, between
    one thread and all threads of PyTorch, by the time that their last steps took.

    This concerns single processes on the CPU whose steps are short. The number of threads changes
    the last bits of sums, so a solver with a `random_seed`, which promises equal numbers in every
    run, keeps the number that it finds. If the environment sets it (OMP_NUM_THREADS), nothing is
    chosen. The commands of `caffe` call this function; a program that imports Moka decides for
    itself, for the number of threads is the whole process's.
    """
    global _is_on
    _is_on = not any(name in os.environ for name in _USERS_CHOICE)


def may_choose() -> bool:
    """Whether `choose_threads` has been called, and the environment leaves the choice."""
    return _is_on


class ThreadChoice:
    """Chooses between one thread and all, by measurement (`TwoWays`).

    Args:
        most: all threads.
        set_threads: makes a number of threads the one in force.
        clock: seconds.
    """

    def __init__(
        self, most: int, set_threads: Callable[[int], object], clock: Clock = perf_counter
    ) -> None:
        self._numbers = (most, 1)
        self._set_threads = set_threads
        self._clock = clock
        self._ways = TwoWays()

    @property
    def threads(self) -> int:
        """The number of the next step."""
        return self._numbers[self._ways.way]

    @contextmanager
    def step(self) -> Iterator[None]:
        """Runs a step with the chosen number of threads, and measures it. Outside of steps the
        process has all of them."""
        is_changed = self._ways.way != 0
        if is_changed:
            self._set_threads(self.threads)
        start = self._clock()
        try:
            yield
        finally:
            if is_changed:
                self._set_threads(self._numbers[0])
        self._ways.took(self._clock() - start)
