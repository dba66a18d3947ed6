"""Starting several processes of this program on this machine, by PyTorch's own elastic agent.

When a process is lost, all are started again, up to a limit. When one ends with an error of the
user's, that would only come again, so all end.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from moka.cores import usable_cores

GRACE_S = 30  # after SIGTERM, for processes that have nothing to save


def launch(
    entry: str | Callable[..., Any],
    args: Sequence[Any],
    count: int,
    *,
    max_restarts: int,
    grace_s: int = GRACE_S,
) -> dict[int, Any]:
    """Run a program, or a function, in several processes; returns when all have ended.

    SIGTERM, SIGINT and SIGHUP are passed on to all of them.

    Args:
        entry: the program's file; or a function of a module's top level.
        args: what it is called with.
        count: how many processes.
        max_restarts: how often all of them are started again when one is lost.
        grace_s: how long they may take to end after SIGTERM, in seconds.

    Returns:
        What the function has returned, by rank.

    Raises:
        SystemExit: with the exit code of processes that ended with an error and have said so, or
            REQUEUE after SIGTERM.
        SolverError: processes were lost more often than that.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # sockets that a lost process leaves
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"
    # Its import says on macOS and Windows that they cannot redirect output, which nobody asks for.
    from moka.parallel.agent import run_workers

    return run_workers(entry, args, count, max_restarts=max_restarts, grace_s=grace_s)


def launch_this_program(
    argv: Sequence[str], count: int, *, max_restarts: int, grace_s: int = GRACE_S
) -> None:
    """Run `caffe` with these words in several processes; as `launch`."""
    words = ("-m", "moka", *argv)
    launch(sys.executable, words, count, max_restarts=max_restarts, grace_s=grace_s)
