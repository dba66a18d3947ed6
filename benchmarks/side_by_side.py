"""Run contenders side by side: each in its own process, in turns, so that drift hits all alike."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

# A contender makes itself ready and returns a function that runs so many iterations.
Contender = Callable[[], Callable[[int], None]]


class Timing(NamedTuple):
    """Median milliseconds an iteration, and the process's peak memory in MB."""

    ms: float
    peak_mb: float


def compare(
    contenders: Mapping[str, Contender],
    *,
    rounds: int = 15,
    iterations: int = 20,
    warm_up: int = 20,
    processor_time: bool = False,
) -> dict[str, Timing]:
    """Median time of each contender's iterations, taken in turns.

    Args:
        rounds: how often each has its turn.
        iterations: how many a turn.
        warm_up: iterations of each before the first turn.
        processor_time: measure a contender's own processor time, which other programs on the
            machine hardly change, instead of the time that passes.
    """
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name, contender in contenders.items():
        here, there = context.Pipe()
        process = context.Process(
            target=_work, args=(contender, there, processor_time), daemon=True
        )
        process.start()
        there.close()  # so that a contender that fails is noticed here
        workers[name] = (process, here)
        _ask(here, warm_up)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (_, pipe) in workers.items():
            times[name].append(_ask(pipe, iterations) / iterations * 1e3)
    result = {}
    for name, (process, pipe) in workers.items():
        pipe.send(0)
        result[name] = Timing(median(times[name]), pipe.recv())
        process.join()
    return result


def _ask(pipe: Connection, iterations: int) -> float:
    pipe.send(iterations)
    return float(pipe.recv())


def _work(contender: Contender, pipe: Connection, processor_time: bool) -> None:
    clock = process_time if processor_time else perf_counter
    run = contender()
    while iterations := pipe.recv():
        start = clock()
        run(iterations)
        pipe.send(clock() - start)
    pipe.send(_peak_mb())


def _peak_mb() -> float:
    """This process's peak memory. What `getrusage` says begins with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
