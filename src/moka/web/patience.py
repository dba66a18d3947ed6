"""What this server's connections have beyond uvicorn's: an end for clients that send or take
nothing, and one packet for the head and the body of an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

GONE = "moka.gone"  # in a request's scope: what to call if its client closes the connection
HEAD_S = 15.0  # for the head of a request
BODY_S = 300.0  # for its body; the API's deadline is shorter
TAKE_S = 30.0  # in which a client has to take some of an answer


class Impatient(H11Protocol):
    """uvicorn's protocol; a connection is closed if a request's head takes longer than HEAD_S, its
    body longer than BODY_S, or if a client takes nothing of its answer for TAKE_S.

    uvicorn itself only closes connections that send nothing at all after an answer.
    """

    _missing = ""  # what the client is to send: "head", "body"; "": nothing
    _sends: asyncio.TimerHandle | None = None  # ends the connection if that does not come
    _takes: asyncio.TimerHandle | None = None
    _left = 0  # bytes of an answer that the client has not taken

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
        self._wait_for("head")

    def handle_events(self) -> None:
        super().handle_events()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._wait_for("head")
        else:
            self._wait_for("body" if cycle.more_body else "")

    def _wait_for(self, missing: str) -> None:
        if missing == self._missing:
            return
        self._missing = missing
        if self._sends is not None:
            self._sends.cancel()
            self._sends = None
        if missing:
            seconds = HEAD_S if missing == "head" else BODY_S
            self._sends = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._left = self.transport.get_write_buffer_size()
        self._takes = self.loop.call_later(TAKE_S, self._look_after)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._takes is not None:
            self._takes.cancel()
            self._takes = None

    def _look_after(self) -> None:
        """Give up a client that has taken nothing since the last look."""
        left = self.transport.get_write_buffer_size()
        if left >= self._left:
            self.transport.abort()
            return
        self._left = left
        self._takes = self.loop.call_later(TAKE_S, self._look_after)

    def connection_lost(self, exc: Exception | None) -> None:
        went: Any = self.cycle is not None and self.cycle.scope.get(GONE)
        if went:
            went()
        self._wait_for("")
        if self._takes is not None:
            self._takes.cancel()
        super().connection_lost(exc)


class GatheringTransport:
    """A transport that sends what is written within one turn of the loop together."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send soon."""
        if data:
            if not self._parts:
                self._loop.call_soon(self._send)
            self._parts.append(data)

    def close(self) -> None:
        """Send what has gathered, then close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
