"""One line of JSON for each request, and its count in the metrics."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Collection
from itertools import count
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moka.serving.metrics import REQUEST_SECONDS, REQUESTS, Metrics
from moka.web.api.endpoint import LOG

ID_HEADER = b"x-request-id"
MOST_ID = 64
TOGETHER_S = 0.1  # lines of this time are written at once
OTHER = "other"  # all paths that are no route, so that nobody makes metrics grow

Write = Callable[[str], object]


class RequestLog:
    """The outermost middleware.

    Args:
        routes: paths that are counted by their own names.
        write: called with each line; None: no log.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, routes: Collection[str], write: Write | None
    ) -> None:
        self.app, self._metrics, self._routes = app, metrics, frozenset(routes)
        self._write = write
        self._begin, self._numbers = secrets.token_hex(5), count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        told: dict[str, Any] = {}
        scope[LOG] = told
        name = _given_id(scope) or f"{self._begin}{next(self._numbers):06x}"
        status, received = 0, 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (ID_HEADER, name.encode("latin-1"))]
            await send(message)

        try:
            await self.app(scope, counted, seen)
        finally:
            seconds = time.perf_counter() - start
            path = scope["path"]
            route = path if path in self._routes else OTHER
            self._metrics.add(REQUESTS, route=route, method=_method(scope), status=str(status))
            self._metrics.observe(REQUEST_SECONDS, seconds, route=route)
            if self._write is not None:
                client = scope.get("client") or ("", 0)
                line = {
                    "time": round(time.time(), 3),
                    "id": name,
                    "client": client[0],
                    "method": scope["method"],
                    "path": path,
                    "status": status,
                    "ms": round(1000 * seconds, 3),
                    "bytes": received,
                    **told,
                }
                self._write(json.dumps(line))


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "POST", "HEAD", "OPTIONS") else OTHER


def _given_id(scope: Scope) -> str:
    """The request's name that the client gives, if it is short and plain; else ""."""
    for key, value in scope["headers"]:
        if key == ID_HEADER and len(value) <= MOST_ID:
            text: str = value.decode("latin-1")
            if text.isascii() and text.replace("-", "").isalnum():
                return text
    return ""


class LineWriter:
    """Writes lines to a file, those of a moment together."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: list[str] = []
        self._is_broken = False

    def __call__(self, line: str) -> None:
        """Write a line soon; called in an event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_later(TOGETHER_S, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what has gathered."""
        lines, self._lines = self._lines, []
        if lines and not self._is_broken:
            try:
                self._file.write("\n".join([*lines, ""]))
                self._file.flush()
            except BrokenPipeError:  # nobody reads the log any more
                self._is_broken = True
