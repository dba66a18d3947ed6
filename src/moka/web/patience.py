"""What this server's connections have beyond uvicorn's: an end for those that send nothing, and one
packet for the head and the body of an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_S = 15.0  # for the headers of a connection's first request


class Impatient(H11Protocol):
    """uvicorn's protocol; a connection whose first request has not begun after HEADER_S is closed.

    uvicorn itself only looks after connections that have had an answer.
    """

    _first: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
        self._first = self.loop.call_later(HEADER_S, self._give_up)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and self._first is not None:
            self._first.cancel()
            self._first = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._first is not None:
            self._first.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


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
