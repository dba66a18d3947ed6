"""Connections that send no whole request are closed."""

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
        super().connection_made(transport)
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
        transport: Any = self.transport
        if self.cycle is None and not transport.is_closing():
            transport.close()
