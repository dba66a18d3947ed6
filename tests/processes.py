"""Functions run by several processes at once, which train one model together."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

PRELOAD = ["caffe", "moka.cli.main", "moka.solver.solver", "moka.data.lmdb"]
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
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
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
