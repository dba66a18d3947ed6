"""Programs that need a process of their own, started without waiting for PyTorch.

A new Python takes seconds to import PyTorch. This module, run as a program, is a Python that has
imported it, and nothing of Moka; it forks for each program.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE_S = 180.0
NUMBER = struct.Struct("i")
CAN_FORK = sys.platform.startswith("linux")


class Request(NamedTuple):
    """A program's text, where it runs, its variables, and the files that take what it prints."""

    program: str
    folder: str
    variables: dict[str, str]
    out: str
    err: str


def run_program(
    program: str, folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a text as `python -c` does; what it printed, and its exit code.

    Args:
        folder: where it runs; None: here.
        variables: its environment; None: this process's.
    """
    folder = folder or Path.cwd()
    variables = dict(os.environ if variables is None else variables)
    command = [sys.executable, "-c", program]
    if not CAN_FORK:
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, timeout=PATIENCE_S, check=False
        )
    with tempfile.TemporaryDirectory() as files:
        out, err = Path(files, "out"), Path(files, "err")
        request = Request(program, str(folder), variables, str(out), str(err))
        code = _ask(_server(), request)
        return subprocess.CompletedProcess(command, code, out.read_bytes(), err.read_bytes())


_servers: list[subprocess.Popen[bytes]] = []


def _server() -> subprocess.Popen[bytes]:
    """The server of this process, started when it is first asked."""
    if not _servers:
        pipe = subprocess.PIPE
        started = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe)
        atexit.register(started.kill)
        _servers.append(started)
    return _servers[0]


def _ask(server: subprocess.Popen[bytes], request: Request) -> int:
    assert server.stdin is not None
    assert server.stdout is not None
    pickle.dump(tuple(request), server.stdin)
    server.stdin.flush()
    answers = server.stdout.fileno()
    pid = _hear(answers)
    if not select.select([answers], [], [], PATIENCE_S)[0]:
        os.kill(pid, signal.SIGKILL)
        _hear(answers)
        raise subprocess.TimeoutExpired(request.program, PATIENCE_S)
    return _hear(answers)


def _hear(answers: int) -> int:
    """The next number; nothing is read ahead, so that `select` knows of all others."""
    (number,) = NUMBER.unpack(os.read(answers, NUMBER.size))
    return int(number)


def _serve() -> Request | None:
    """Answer requests; in a child its request, in the server None after the last one."""
    while True:
        try:
            request = Request(*pickle.load(sys.stdin.buffer))
        except EOFError:
            return None
        pid = os.fork()
        if pid == 0:
            return request
        _tell(pid)
        _tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _tell(answer: int) -> None:
    os.write(1, NUMBER.pack(answer))


def _become(request: Request) -> None:
    """Run the program in this process, which then ends as any Python does."""
    for number, name, how in (
        (0, os.devnull, os.O_RDONLY),
        (1, request.out, os.O_WRONLY | os.O_CREAT),
        (2, request.err, os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(name, how), number)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.variables)
    sys.argv[:], sys.path[0] = ["-c"], ""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    namespace: dict[str, Any] = main.__dict__
    exec(compile(request.program, "<string>", "exec"), namespace)


if __name__ == "__main__":
    import google.protobuf.message  # noqa: F401 - for the children
    import numpy  # noqa: F401
    import torch  # noqa: F401

    if asked := _serve():
        _become(asked)
