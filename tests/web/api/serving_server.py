"""A `caffe serve` of its own for a test, as a process on loopback."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

from tests.processes import Program

SOON = 180.0  # only a failure waits that long; a busy machine takes a minute to start a server
DEFAULTS = ("--port", "0", "--engine", "layerwise", "--deadline_ms", "600000")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """The process, and questions to it.

    Args:
        from_shell: started as from a shell, which takes seconds; else forked from a process that
            has imported all modules.
    """

    def __init__(self, *flags: str, from_shell: bool = False) -> None:
        words = ["serve", *DEFAULTS, *flags]
        self.process = _started(words) if from_shell else Program(words)
        self._lines: queue.Queue[str] = queue.Queue()
        self.errors = ""
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            first = self.line()
            assert " at http://" in first, first + self.errors
        except BaseException:
            self.close()
            raise
        self.address = first.rpartition(" at ")[2].strip()
        self.port = int(self.address.partition("/?")[0].rstrip("/").rpartition(":")[2])

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def line(self) -> str:
        """The next line that it writes on standard output; "" after the last one."""
        return self._lines.get(timeout=SOON)

    def requests(self) -> list[dict[str, Any]]:
        """The lines of its log so far; after its end all of them."""
        found = []
        while not self._lines.empty():
            if line := self._lines.get():
                found.append(json.loads(line))
        return found

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=SOON)

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, **headers: str
    ) -> Answer:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            return read(connection)
        finally:
            connection.close()

    def close(self) -> None:
        """Kill it, if it still runs, and close its pipes."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(SOON)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def end(self, sig: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(sig)
        code = self.process.wait(SOON)
        for reader in self._readers:
            reader.join(SOON)
        return code


def _started(words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "moka", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read(connection: HTTPConnection) -> Answer:
    """The answer to what was sent."""
    got = connection.getresponse()
    headers = {name.lower(): value for name, value in got.getheaders()}
    return Answer(got.status, headers, got.read())


@contextmanager
def serving(*flags: str, from_shell: bool = False) -> Iterator[Server]:
    """A server that is gone afterwards, whatever happens."""
    server = Server(*flags, from_shell=from_shell)
    try:
        yield server
    finally:
        server.close()


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, str]:
    """A multipart body of (field, file name, bytes), and its content type."""
    boundary = "5d1a7c0e"
    body = b""
    for name, filename, data in parts:
        file = f'; filename="{filename}"' if filename is not None else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        )
        body += data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
