"""A light client that loads a server on loopback: sockets that stay open, bytes made before."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moka.cores import usable_cores

CLIENTS = 32  # connections of the full load
SLOW_S = 60  # in which the last answers have to come
MOST_CLIENTS = 400  # of an evenly spaced load
TOGETHER = 8  # images in one request
BOUNDARY = "5d1a7c0e"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
CORES = usable_cores()


@dataclass
class Seen:
    """What the client saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    client_cpu_s: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Note how long the load takes, and what the client itself computes meanwhile."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds = time.perf_counter() - start
        self.client_cpu_s = time.process_time() - cpu

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.statuses[200] / self.seconds

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.accepted_s.append(seconds)

    def summary(self) -> dict[str, Any]:
        ms = 1000 * np.sort(self.accepted_s or [float("nan")])
        return {
            "per_s": round(self.per_s, 1),
            "client_share": round(self.client_cpu_s / (CORES * self.seconds), 3),
            "statuses": ", ".join(f"{k}: {n}" for k, n in sorted(self.statuses.items())),
            "refused": self.statuses[429],
            **{f"p{p}_ms": round(float(np.percentile(ms, p)), 1) for p in (50, 95, 99, 100)},
        }


class Connection(asyncio.Protocol):
    """One connection that sends a request at a time; it reads no more than it must.

    Attributes:
        is_open: the server, which ends connections that nobody uses, has not ended this one.
    """

    def __init__(self) -> None:
        self.is_open = True
        self._buffer = bytearray()
        self._transport: Any = None
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future is the status of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        text = bytes(self._buffer[:head]).lower()
        at = text.find(b"content-length:")
        length = int(text[at + 15 : text.find(b"\r", at) if b"\r" in text[at:] else None])
        if len(self._buffer) < head + 4 + length:
            return
        del self._buffer[: head + 4 + length]
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(text[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    def close(self) -> None:
        self._transport.close()


async def connect(port: int) -> Connection:
    _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return made


def forms(images: list[bytes]) -> list[bytes]:
    """Bodies with several images each."""
    begin = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    parts = [begin.encode() + image + b"\r\n" for image in images]
    end = f"--{BOUNDARY}--\r\n".encode()
    return [
        b"".join(parts[i : i + TOGETHER]) + end for i in range(0, len(parts) - TOGETHER, TOGETHER)
    ]


def requests(port: int, images: list[bytes], kind: str = "image/jpeg") -> list[bytes]:
    head = f"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
    return [f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data for data in images]


async def full_load(
    port: int, bodies: list[bytes], seconds: float, kind: str = "image/jpeg", clients: int = CLIENTS
) -> Seen:
    """Each connection asks again as soon as it has its answer."""
    seen, asked = Seen(), requests(port, bodies, kind)
    end = time.perf_counter() + seconds

    async def client(i: int) -> None:
        connection = await connect(port)
        while (start := time.perf_counter()) < end:
            status = await connection.ask(asked[i % len(asked)])
            seen.add(status, time.perf_counter() - start)
            i += clients
        connection.close()

    with seen.timed():
        async with asyncio.timeout(seconds + SLOW_S):
            await asyncio.gather(*(client(i) for i in range(clients)))
    return seen


async def spaced_load(port: int, images: list[bytes], seconds: float, rate: float) -> Seen:
    """Requests at a steady rate, whatever the server does; latencies count from the moment when
    a request was due. What finds all connections busy counts as status -1."""
    seen, asked = Seen(), requests(port, images)
    free: deque[Connection] = deque()
    running: set[asyncio.Task[None]] = set()
    opened = 0

    async def one(i: int, due: float) -> None:
        nonlocal opened
        while free and not free[-1].is_open:
            free.pop()
            opened -= 1
        if free:
            connection = free.pop()
        elif opened < MOST_CLIENTS:
            opened += 1
            connection = await connect(port)
        else:
            seen.add(-1, 0)
            return
        status = await connection.ask(asked[i % len(asked)])
        seen.add(status, time.perf_counter() - due)
        if status:
            free.append(connection)
        else:
            opened -= 1

    with seen.timed():
        start = time.perf_counter()
        for i in range(int(seconds * rate)):
            due = start + i / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(one(i, due))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running, timeout=SLOW_S)
    for connection in free:
        connection.close()
    return seen
