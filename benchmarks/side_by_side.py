"""Run contenders side by side: each in its own process, in turns, so that drift hits all alike.

A process imports the module of its contender and nothing else of the benchmark, and may be another
Python's (`Place`), so its memory and its time to the first result are the contender's own.
"""

from __future__ import annotations

import io
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple

# Runs so many iterations. It may return the seconds that they took, if it knows better than a
# clock around it.
Run = Callable[[int], float | None]
# A contender makes itself ready and returns a function that runs iterations.
Contender = Callable[[], Run]

HERE = Path(__file__).parent
MOST_IN_A_TURN = 1000
REST_S, MOST_REST_S = 0.01, 0.5
FIRST_TURN = 50  # iterations at most; one that went well says little of the next


class Timing(NamedTuple):
    """What was measured of a contender.

    Attributes:
        ms: the median of its turns, milliseconds an iteration.
        least_ms: of its fastest turn.
        peak_mb: the process's peak memory.
        first_s: seconds from the start of the process to the end of the first iteration.
    """

    ms: float
    least_ms: float
    peak_mb: float
    first_s: float = float("nan")


@dataclass(frozen=True)
class Place:
    """Where a contender's process runs.

    Attributes:
        python: the interpreter.
        variables: of the environment, beside those of this process.
        packages: folders of packages that its Python does not have itself.
    """

    python: str = sys.executable
    variables: Mapping[str, str] = field(default_factory=dict)
    packages: Sequence[str] = ()


HOME = Place()


class ContenderError(Exception):
    """A contender that has failed, with its last words."""


class Worker:
    """A contender in its process.

    Args:
        place: where it runs.
        clock: "wall" or "processor".
        limit_s: the most seconds that an answer may take.

    Raises:
        ContenderError: it fails, there or in `run`.
    """

    def __init__(
        self,
        contender: Contender,
        place: Place = HOME,
        clock: str = "wall",
        limit_s: float | None = None,
    ) -> None:
        here, there = Pipe()
        self._limit_s = limit_s
        start = perf_counter()
        program = f"import sys; sys.path.insert(0, {str(HERE)!r}); import side_by_side;"
        self._process = subprocess.Popen(
            [place.python, "-c", f"{program} side_by_side.serve({there.fileno()})"],
            env={**os.environ, **place.variables},
            pass_fds=[there.fileno()],
        )
        there.close()  # so that a contender that fails is noticed here
        self._pipe = here
        here.send(([*_own_paths(), *place.packages], _main(), clock))
        here.send_bytes(pickle.dumps(contender))
        self.run(1)
        self.first_s = self._answered_s - start

    def run(self, iterations: int) -> float:
        """Seconds of so many iterations."""
        return self._ask(iterations)

    def end(self) -> float:
        """End the process; returns its peak memory in MB."""
        peak = self._ask(0)
        self._process.wait()
        return peak

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, iterations: int) -> float:
        try:
            self._pipe.send(iterations)
            if not self._pipe.poll(self._limit_s):
                self.kill()
                raise ContenderError(f"took more than {self._limit_s:g} s")
            answer = self._pipe.recv()
            self._answered_s = perf_counter()
            if iterations and not isinstance(answer, str):
                self._pipe.recv()  # it rests
        except (EOFError, OSError):
            self.kill()
            raise ContenderError(f"ended with code {self._process.returncode}") from None
        if isinstance(answer, str):
            self._process.wait()
            raise ContenderError(answer)
        return float(answer)


def compare(
    contenders: Mapping[str, Contender],
    *,
    rounds: int = 15,
    iterations: int = 20,
    warm_up: int = 20,
    processor_time: bool = False,
    turn_s: float = 0.0,
    places: Mapping[str, Place] | None = None,
    failed: dict[str, str] | None = None,
    limit_s: float | None = None,
    enough_s: float = inf,
) -> dict[str, Timing]:
    """Median time of each contender's iterations, taken in turns.

    Args:
        rounds: how often each has its turn.
        iterations: how many a turn.
        warm_up: iterations of each before the first turn.
        processor_time: measure a contender's own processor time, which other programs on the
            machine hardly change, instead of the time that passes.
        turn_s: if given, the seconds of a turn, in place of `iterations`; a turn is one iteration
            at least.
        places: where contenders run, if not in this Python.
        failed: gets what contenders that fail say; they are left out of the result. None: the
            first that fails ends all.
        limit_s: the most seconds for a contender's first iteration, and for a turn.
        enough_s: after so many seconds no further round begins.

    Raises:
        ContenderError: a contender has failed.
    """
    begun_s = perf_counter()
    clock = "processor" if processor_time else "wall"
    places = places or {}
    workers: dict[str, Worker] = {}
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for name, contender in contenders.items():
            with _noting(name, failed, workers):
                workers[name] = Worker(contender, places.get(name, HOME), clock, limit_s)
                workers[name].run(warm_up)
                counts[name] = iterations
                if turn_s:
                    counts[name] = min(_fitting(workers[name].run(1), turn_s), FIRST_TURN)
        for done in range(rounds):
            if done and perf_counter() - begun_s > enough_s:
                break
            for name, worker in list(workers.items()):
                with _noting(name, failed, workers):
                    seconds = worker.run(counts[name]) / counts[name]
                    times[name].append(seconds * 1e3)
                    if turn_s:
                        counts[name] = min(_fitting(seconds, turn_s), 4 * counts[name])
        result: dict[str, Timing] = {}
        for name, worker in list(workers.items()):
            with _noting(name, failed, workers):
                found = times[name]
                result[name] = Timing(median(found), min(found), worker.end(), worker.first_s)
        return result
    finally:
        for worker in workers.values():
            worker.kill()


def _fitting(seconds: float, turn_s: float) -> int:
    """How many iterations of so many seconds a turn has."""
    return min(MOST_IN_A_TURN, max(1, int(turn_s / max(seconds, 1e-9))))


@contextmanager
def _noting(name: str, failed: dict[str, str] | None, workers: dict[str, Worker]) -> Iterator[None]:
    """Note a contender that fails and leave it out, if that is wanted."""
    try:
        yield
    except ContenderError as error:
        if failed is None:
            raise
        failed[name] = str(error)
        workers.pop(name, None)


def _own_paths() -> list[str]:
    """Where modules lie that are not installed."""
    installed = [sys.prefix, sys.base_prefix]
    return [p for p in sys.path if not any(Path(p).is_relative_to(where) for where in installed)]


def _main() -> str:
    """The module that runs as a script, by the name under which a process can import it."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(file).stem if file else "__main__"


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, main: str) -> None:
        super().__init__(io.BytesIO(data))
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._main if module == "__main__" else module, name)


def serve(handle: int) -> None:
    """The work of a contender's process: run iterations as asked, and tell how long they took."""
    pipe = Connection(handle)
    try:
        paths, main, clock_name = pipe.recv()
        sys.path += paths
        clock = process_time if clock_name == "processor" else perf_counter
        run: Run = _Unpickler(pipe.recv_bytes(), main).load()()
        while iterations := pipe.recv():
            start = clock()
            known = run(iterations)
            pipe.send(clock() - start if known is None else known)
            _rest()
            pipe.send(True)
        pipe.send(_peak_mb())
    except Exception as error:  # noqa: BLE001 - whatever a contender raises is for the other side
        pipe.send(f"{type(error).__name__}: {error}".partition("\n")[0][:300])


def _rest() -> None:
    """Wait until the threads of this process rest, for else the next turn has fewer processors.
    ONNX Runtime's wait in a loop for 30 ms after a pass, and a turn is 200 ms."""
    end = perf_counter() + MOST_REST_S
    while perf_counter() < end:
        before = process_time()
        sleep(REST_S)
        if process_time() - before < REST_S / 10:
            break


def _peak_mb() -> float:
    """This process's peak memory. What `getrusage` says begins with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
