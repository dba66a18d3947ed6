"""Connections that send nothing, and answers in one piece."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from moka.web import patience
from moka.web.server import listen, serve

SOON = 60.0
COUNT, CHUNK = 50, 1_000_000  # of a large answer: more bytes than sockets hold
DONE = threading.Event()  # the large answer is sent, or given up


async def chunks() -> AsyncIterator[bytes]:
    try:
        for _ in range(COUNT):
            yield bytes(CHUNK)
    finally:
        DONE.set()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server in a thread, which closes silent connections at once."""
    for name in ("HEAD_S", "BODY_S", "TAKE_S"):
        monkeypatch.setattr(patience, name, 0.05)
    ended = asyncio.Event()

    async def slow(request: object) -> PlainTextResponse:
        await asyncio.sleep(0.2)  # longer than a connection may be silent
        return PlainTextResponse("done")

    async def body(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    def large(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks())

    app = Starlette(
        routes=[Route("/", slow), Route("/body", body, methods=["POST"]), Route("/large", large)]
    )
    with listen("127.0.0.1", 0) as listener:
        started = threading.Event()
        servers: list[object] = []

        def leaving() -> None:
            ended.set()

        def run() -> None:
            import uvicorn

            original = uvicorn.Server.startup

            async def startup(self: uvicorn.Server, sockets: object = None) -> None:
                await original(self, sockets)  # type: ignore[arg-type]
                servers.append(self)
                started.set()

            monkeypatch.setattr(uvicorn.Server, "startup", startup)
            serve(app, listener, grace_s=1, leaving=leaving)

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(SOON)
        yield listener.getsockname()[1]
        servers[0].should_exit = True  # type: ignore[attr-defined]
        thread.join(SOON)
    assert ended.is_set()


def test_a_silent_connection_is_closed(port: int) -> None:
    for begin in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow:"):
        with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
            connection.sendall(begin)
            assert connection.recv(1) == b""


def test_a_later_request_that_does_not_end(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
                           b"GET / HTTP/1.1\r\nX-Slow:")  # fmt: skip
        answer = all_of(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"ok")


def test_a_body_that_does_not_end(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
        assert all_of(connection) == b""


def test_one_that_takes_no_answer(port: int) -> None:
    DONE.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert DONE.wait(SOON), "the server still waits"


def test_a_large_answer_that_is_taken(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TAKE_S", SOON)
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert len(all_of(connection)) > COUNT * CHUNK


def all_of(connection: socket.socket) -> bytes:
    """What comes until the end of the connection."""
    answer = b""
    while part := connection.recv(1 << 20):
        answer += part
    return answer


def test_one_that_has_asked_gets_its_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = all_of(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"done")


def test_head_and_body_are_sent_together() -> None:
    class Seen:
        def __init__(self) -> None:
            self.sent: list[bytes] = []
            self.closed = False

        def write(self, data: bytes) -> None:
            self.sent.append(data)

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True

    async def talk() -> tuple[list[bytes], bool]:
        seen = Seen()
        transport = patience.GatheringTransport(seen, asyncio.get_running_loop())  # type: ignore[arg-type]
        transport.write(b"head ")
        transport.write(b"")
        transport.write(b"body")
        assert seen.sent == []
        await asyncio.sleep(0)
        transport.write(b"last")
        transport.close()
        return seen.sent, seen.closed

    assert asyncio.run(talk()) == ([b"head body", b"last"], True)
