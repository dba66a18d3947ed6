"""Functions run by several processes at once, which train one model together; and the program
`caffe` as a process that need not import anything first."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO, Any, TextIO

PRELOAD = [
    "caffe", "moka.cli.main", "moka.solver.solver", "moka.data.lmdb", "moka.parallel.agent",
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
    """The program `caffe` as a process of a session of its own, forked from one that has imported
    it; it behaves as subprocess.Popen.

    Args:
        words: what stands after `caffe`.
        folder: where it runs; None: here.
        output: takes what it prints; None: `stdout` and `stderr` read it.
    """

    def __init__(
        self, words: Sequence[str], folder: Path | None = None, output: IO[bytes] | None = None
    ) -> None:
        server = _server()
        readers: list[Connection] = []
        writers: list[Connection] = []
        for _ in range(2):
            if output is None:
                reader, writer = server.Pipe(duplex=False)
                readers.append(reader)
            else:
                writer = Connection(os.dup(output.fileno()), readable=False)
            writers.append(writer)
        given = (words, dict(os.environ), str(folder or Path.cwd()), writers)
        self._process = server.Process(target=_run_program, args=given)
        self._process.start()
        for writer in writers:
            writer.close()
        texts: list[TextIO | None] = [*map(_text_of, readers)] or [None, None]
        self.stdout, self.stderr = texts
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    @returncode.setter
    def returncode(self, code: int) -> None:
        """As subprocess.Popen's: whoever sets it does not wait for the process."""

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("caffe", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _server() -> ForkServerContext:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    return server


def _text_of(pipe: Connection) -> TextIO:
    """What is written into a pipe; closing the text closes the pipe."""
    with pipe:
        return open(os.dup(pipe.fileno()), encoding="utf-8", errors="surrogateescape")


def _run_program(
    words: Sequence[str], variables: dict[str, str], folder: str, outputs: Sequence[Connection]
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    for stream, output in zip((sys.stdout, sys.stderr), outputs, strict=True):
        os.dup2(output.fileno(), stream.fileno())
        output.close()
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
