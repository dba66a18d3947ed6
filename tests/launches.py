"""The program `caffe` run by several processes at once, as a launcher would start them."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.processes import run_together

from moka.cli.main import main


class Ended(NamedTuple):
    """What one process left behind."""

    code: int
    out: str
    err: str


def free_port() -> int:
    """A port of the loopback device that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def caffe_together(
    *argv: str,
    count: int = 2,
    of: int | None = None,
    port: int | None = None,
    folders: Sequence[Path] = (),
) -> list[Ended]:
    """Run `caffe` with these words in each of several processes, which find each other by the
    variables of PyTorch's launchers; by rank.

    Args:
        count: how many are started.
        of: how many there should be; None: that many.
        folders: where each works; empty: all here.
    """
    paths = [str(folder) for folder in folders] or [os.getcwd()] * count
    port = port or free_port()
    found: list[Ended] = run_together(_run, argv, of or count, port, paths, uid=b"", count=count)
    return found


def _run(
    rank: int, _: int, __: bytes, argv: Sequence[str], size: int, port: int, folders: list[str]
) -> Ended:
    os.chdir(folders[rank])
    os.environ.update(place(rank, size, port))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    return Ended(code, out.getvalue(), err.getvalue())


def place(rank: int, count: int, port: int) -> dict[str, str]:
    """The variables that tell a process its place."""
    numbers = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(n) for name, n in numbers.items()}}
