"""Routes of plain functions: a function of the request's values whose result becomes JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from math import inf, isfinite, nan
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from moka.command.run import sentence
from moka.errors import MokaError, UsageError
from moka.report.json_lines import to_json

Values = Mapping[str, Any]
Work = Callable[[Values], Any]

LETTERS = 40  # of a value that an error repeats
SILENCE_S = 15.0  # after this time without an event a comment keeps the connection open


class Answer(Response):
    """A value as JSON; numbers that are not finite become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content).encode()


def get(path: str, work: Work) -> Route:
    """A route whose function takes the address's parameters. It may return a Response."""

    async def endpoint(request: Request) -> Response:
        return _answer(await run_in_threadpool(work, values_of(request)))

    return Route(path, endpoint, methods=["GET"])


def post(path: str, work: Work) -> Route:
    """A route whose function takes the fields of a JSON object, and the address's parameters."""

    async def endpoint(request: Request) -> Response:
        return _answer(await run_in_threadpool(work, values_of(request) | await _fields(request)))

    return Route(path, endpoint, methods=["POST"])


def values_of(request: Request) -> dict[str, Any]:
    """The parameters of a request's address."""
    return {**request.query_params, **request.path_params}


def _answer(result: Any) -> Response:
    return result if isinstance(result, Response) else Answer(result)


async def _fields(request: Request) -> dict[str, Any]:
    try:
        fields = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise UsageError("the request's body is not JSON.") from None
    if not isinstance(fields, dict):
        raise UsageError("the request's body is not a JSON object.")
    return fields


def wanted(values: Values, name: str) -> str:
    """A text that a request has to give. Raises UsageError if it is missing."""
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"the request lacks {name}.")
    return value


def number(values: Values, name: str, default: float, least: float = -inf) -> float:
    """A number of a request that is at least `least`. Raises UsageError for anything else."""
    value = values.get(name)
    if value is None or value == "":
        return default
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = nan
    if not isfinite(found):
        raise UsageError(f"{name} has to be a number, got {str(value)[:LETTERS]}.")
    if found < least:
        raise UsageError(f"{name} has to be at least {least:g}, got {found:g}.")
    return found


def whole(values: Values, name: str, default: int, least: int = 0, most: int = 1 << 31) -> int:
    """A whole number of a request, within bounds. Raises UsageError for anything else."""
    value = number(values, name, default)
    if not least <= value <= most or value != int(value):
        raise UsageError(f"{name} has to be a whole number from {least} to {most}, got {value:g}.")
    return int(value)


def events(source: Callable[[], AsyncIterator[Any]]) -> StreamingResponse:
    """Server-sent events: each value of the source as JSON, at once.

    Args:
        source: called once; it ends, or the reader goes away.
    """

    async def lines() -> AsyncIterator[str]:
        async for value in _with_silence(source()):
            yield ": still here\n\n" if value is None else f"data: {to_json(value)}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


async def _with_silence(values: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The values, and None after each SILENCE_S without one."""
    send, receive = anyio.create_memory_object_stream[Any](1)

    async def pump() -> None:
        async with send:
            async for value in values:
                await send.send(value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pump)
        async with receive:
            while True:
                value = None
                with anyio.move_on_after(SILENCE_S):
                    try:
                        value = await receive.receive()
                    except anyio.EndOfStream:
                        break
                yield value
        tasks.cancel_scope.cancel()


def refused(_: Request, error: Exception) -> Response:
    """What the user's input has caused, as one sentence."""
    if isinstance(error, HTTPException):
        return JSONResponse(
            {"error": error.detail}, status_code=error.status_code, headers=error.headers
        )
    assert isinstance(error, MokaError | OSError)
    return Answer({"error": sentence(error)}, status_code=400)
