"""PyTorch's elastic agent as Moka's launcher runs it (`moka.parallel.launch`)."""

from __future__ import annotations

import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from torch.distributed.elastic.agent.server.api import (
    RunResult,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
)
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from moka.errors import INTERRUPTED, SolverError
from moka.parallel.libuv import meeting_place
from moka.parallel.team import REQUEUE, TEAM_LOST

log = logging.getLogger("moka")

HOST = "127.0.0.1"
CRASH = 0xC0000000  # exit codes from here on are crashes, on Windows


def run_workers(
    entry: str | Callable[..., Any],
    args: Sequence[Any],
    count: int,
    *,
    max_restarts: int,
    grace_s: int,
) -> dict[int, Any]:
    """See `moka.parallel.launch.launch`."""
    meeting = RendezvousParameters(
        backend="c10d",
        run_id=uuid.uuid4().hex,
        min_nodes=1,
        max_nodes=1,
        local_addr=HOST,
        **meeting_place(HOST),
    )
    spec = WorkerSpec(
        role="moka",
        local_world_size=count,
        entrypoint=entry,
        args=tuple(args),
        rdzv_handler=get_rendezvous_handler(meeting),
        max_restarts=max_restarts,
        monitor_interval=0.1,
        local_addr=HOST,
    )
    agent = _Agent(spec, grace_s)
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, *_forwarded())}
    try:
        result = agent.run()
    except SignalException:
        raise SystemExit(REQUEUE) from None
    finally:
        if _in_main_thread():
            for name, handler in before.items():
                signal.signal(name, handler)
        spec.rdzv_handler.shutdown()
    if result.is_failed():
        raise agent.end_of(result)
    return dict(result.return_values)


def _forwarded() -> tuple[signal.Signals, ...]:
    return (signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


def _in_main_thread() -> bool:
    """Whether this thread may say what becomes of signals."""
    return threading.current_thread() is threading.main_thread()


class _Agent(LocalElasticAgent):
    """PyTorch's agent, which says what it does in a sentence and knows which errors are final."""

    def __init__(self, spec: WorkerSpec, grace_s: int) -> None:
        super().__init__(spec, DefaultLogsSpecs(), exit_barrier_timeout=1)
        self._shutdown_timeout = grace_s

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        started = super()._start_workers(worker_group)
        pids = list(started.values())
        if _in_main_thread():
            for name in _forwarded():  # each process has a session of its own
                signal.signal(name, lambda number, _: _send(pids, number))
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED:
            if _code_of(result) != TEAM_LOST:
                self._remaining_restarts = 0
            elif self._remaining_restarts:
                limit = worker_group.spec.max_restarts
                log.warning(
                    "%s All start again from the last snapshot (%d of %d).",
                    _who_ended(result),
                    limit - self._remaining_restarts + 1,
                    limit,
                )
        return result

    def end_of(self, result: RunResult) -> BaseException:
        """What to raise after processes have failed for the last time."""
        code = _code_of(result)
        if code != TEAM_LOST:
            return SystemExit(code)
        limit = self.get_worker_group().spec.max_restarts
        return SolverError(
            f"{_who_ended(result)} All have been started again as often as"
            f" --max_restarts={limit} allows.",
            advice="Go on from the last snapshot with --snapshot=auto.",
        )


def _code_of(result: RunResult) -> int:
    """The exit code that decides: an error that would come again before a process that is lost.

    SIGINT ends only those that do not listen yet: somebody wants them to end.
    """
    codes = [failure.exitcode for failure in result.failures.values()]
    if -signal.SIGINT in codes:
        return INTERRUPTED
    errors = (code for code in codes if 0 < code < CRASH and code != TEAM_LOST)
    return next(errors, TEAM_LOST)


def _who_ended(result: RunResult) -> str:
    """A sentence for each process that a signal ended, else for those that could not go on."""
    failures = sorted(result.failures.items())
    killed = [
        f"Process {rank} (number {failure.pid}) was ended by {_signal(failure.exitcode)}."
        for rank, failure in failures
        if failure.exitcode < 0
    ]
    ranks = ", ".join(str(rank) for rank, _ in failures)
    return " ".join(killed) or f"A process is lost; {ranks} could not go on without it."


def _signal(exitcode: int) -> str:
    return signal.Signals(-exitcode).name


def _send(pids: Sequence[int], number: int) -> None:
    """Pass a signal on. On Windows the console has told everybody, and `os.kill` would end them."""
    for pid in pids if os.name != "nt" else ():
        with suppress(OSError):  # it has ended
            os.kill(pid, number)
