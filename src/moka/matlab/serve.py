"""The process that Octave talks to: requests on standard input, answers on standard output.

A message on the wire is the length of its head (4 bytes, the order of this machine), the head, and
the body. What is logged or printed on the way is sent as messages with a "log", so it is seen in
Octave's window whatever Octave does with standard error.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np

from moka.matlab.bridge import answer_request
from moka.matlab.session import HandleTable
from moka.matlab.values import body_size
from moka.types import Array

_LENGTH = struct.Struct("=I")


class _Channel:
    """Sends messages, one at a time."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def send(self, head: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
        text = json.dumps(head).encode()
        with self._lock:
            self._out.write(_LENGTH.pack(len(text)) + text)
            for array in arrays:
                if array.size:
                    self._out.write(array.data.cast("B"))
            self._out.flush()


class _Log(io.TextIOBase):
    """A stream whose text becomes messages."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def write(self, text: str) -> int:
        if text:
            self._channel.send({"log": text})
        return len(text)

    def writable(self) -> bool:
        return True


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more.

    The first message has the "init_key" of the session. Each answer has the "id" of its request.
    """
    channel = _Channel(answers)
    sys.stdout = sys.stderr = _Log(channel)
    session = HandleTable()
    channel.send({"init_key": session.init_key})
    while (request := _read_request(requests)) is not None:
        head, body = request
        with _interruptible():
            result, arrays = answer_request(session, head, body)
        channel.send({"id": head["id"], **result}, arrays)
    session.reset()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT interrupt a command, and nothing else: messages are to be read and sent whole."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_request(requests: BinaryIO) -> tuple[dict[str, Any], memoryview] | None:
    """A request's head and body; None at the end."""
    length = _read(requests, _LENGTH.size)
    if length is None:
        return None
    text = _read(requests, *_LENGTH.unpack(length))
    if text is None:
        return None
    head = json.loads(bytes(text))
    body = _read(requests, body_size(head["arguments"]))
    return None if body is None else (head, body)


def _read(requests: BinaryIO, count: int) -> memoryview | None:
    """That many bytes; None if the other side has gone."""
    # NumPy's memory, since a blob may keep it: it is aligned, and not filled with zeros first.
    view = np.empty(count, np.uint8).data
    position = 0
    while position < count:
        read = requests.readinto(view[position:])  # type: ignore[attr-defined]
        if not read:
            return None
        position += read
    return view


def _widen(pipe: int) -> None:
    """Let a pipe hold more than its usual 64 KB, so that large arrays need fewer turns."""
    if sys.platform.startswith("linux"):
        import fcntl

        with suppress(OSError):  # no pipe, or more than this user may have
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)


def main() -> None:
    """Serve on this process's standard input and output, which nothing else may use then."""
    if hasattr(signal, "pthread_sigmask"):  # Octave's children begin with signals blocked
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for pipe in (0, 1):
        _widen(pipe)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(os.fdopen(0, "rb", buffering=0, closefd=False), answers)
