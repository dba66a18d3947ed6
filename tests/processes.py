"""Functions run by several processes at once, which train one model together; and the program
`caffe` as a process that need not import anything first."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, TextIO

PRELOAD = [
    "caffe", "moka.cli.main", "moka.solver.solver", "moka.data.lmdb",
    "uvicorn.lifespan.on", "moka.web.server", "moka.web.serve", "moka.web.patience",
    "moka.web.api.log", "moka.web.api.routes", "moka.web.models.nets_part",
    "moka.web.models.try_part", "moka.web.model_files",
]  # fmt: skip
PATIENCE_S = 60.0  # for all of them together; only a failure waits that long


def run_together(
    work: Callable[..., Any], *args: Any, uid: bytes, count: int = 2, patience_s: float = PATIENCE_S
) -> list[Any]:
    """What `work(rank, count, uid, *args)` returns in each of several processes, by rank.

    Nothing hangs: processes that are not ready in time are killed, and the test fails.

    Args:
        work: a function of a module's top level.
        uid: from `new_uid`.
    """
    server = _server()
    members = []
    for rank in range(count):
        receiver, sender = server.Pipe(duplex=False)
        given = (sender, dict(os.environ), work, rank, count, uid, args)
        process = server.Process(target=_report, args=given)
        process.start()
        sender.close()
        members.append((process, receiver))
    deadline = time.monotonic() + patience_s
    try:
        answers = []
        for rank, (_, receiver) in enumerate(members):
            assert receiver.poll(max(0, deadline - time.monotonic())), f"process {rank} hangs"
            ready, answer = receiver.recv()
            assert ready, f"process {rank}:\n{answer}"
            answers.append(answer)
        for process, _ in members:
            process.join(max(0, deadline - time.monotonic()))
            assert process.exitcode == 0
        return answers
    finally:
        for process, receiver in members:
            process.kill()
            process.join()
            receiver.close()


class Program:
    """The program `caffe` as a process, forked from one that has imported it.

    Attributes:
        stdout, stderr: what it prints.
    """

    def __init__(self, *words: str) -> None:
        server = _server()
        out, its_out = server.Pipe(duplex=False)
        err, its_err = server.Pipe(duplex=False)
        given = (words, dict(os.environ), os.getcwd(), its_out, its_err)
        self._process = server.Process(target=_run_program, args=given)
        self._process.start()
        its_out.close()
        its_err.close()
        self.stdout, self.stderr = _text_of(out), _text_of(err)

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        if self._process.exitcode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "the process does not end"
        return self._process.exitcode


def _server() -> ForkServerContext:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    return server


def _text_of(pipe: Connection) -> TextIO:
    """What is written into a pipe; closing the text closes the pipe."""
    with pipe:
        return open(os.dup(pipe.fileno()), encoding="utf-8", errors="surrogateescape")


def _run_program(
    words: Sequence[str], variables: dict[str, str], folder: str, out: Connection, err: Connection
) -> None:
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    for stream, pipe in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(pipe.fileno(), stream.fileno())
        pipe.close()
    from moka.cli.main import main

    sys.exit(main(words))


def _report(
    sender: Connection,
    variables: dict[str, str],
    work: Callable[..., Any],
    rank: int,
    count: int,
    uid: bytes,
    args: tuple[Any, ...],
) -> None:
    import torch

    os.environ.clear()  # the server may have been started for a test with others
    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        sender.send((True, work(rank, count, uid, *args)))
    except BaseException:  # noqa: BLE001
        sender.send((False, traceback.format_exc()))
