"""The images and values in a request's body: raw bytes, multipart or JSON with base64. All of it is
bounded before it is decoded."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from moka.serving.errors import BadRequestError, GoneError, TooLargeError
from moka.serving.limits import Held, Limits
from moka.serving.net_inputs import Upload

MOST_FIELDS = 32
FIELD_BYTES = 64 * 1024
NAME_LETTERS = 200  # of a file's name that are given back


@dataclass
class Body:
    """What a request brings.

    Attributes:
        images: in their order.
        values: of its address, and of its form or JSON object, which win; among them numbers for
            inputs of the net.
    """

    images: list[Upload] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


async def read_body(request: Request, limits: Limits, held: Held) -> Body:
    """A request's images and values.

    Raises:
        TooLargeError: more bytes or images than the limits allow.
        QueueFullError: all requests together hold too many bytes.
        GoneError: the connection ended within it.
        BadRequestError: it cannot be understood.
    """
    try:
        data = await _all_bytes(request, limits, held)
    except ClientDisconnect:
        raise GoneError("the connection ended within the body.") from None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = Body(values=dict(request.query_params))
    if kind == "multipart/form-data":
        await _read_form(request, data, limits, body)
    elif kind == "application/json":
        _read_json(data, limits, body)
    elif data:
        body.images.append(Upload(str(body.values.get("name", "")), data))
    limits.check_count(len(body.images))
    return body


async def _all_bytes(request: Request, limits: Limits, held: Held) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        limits.check_body(int(declared))
        held.add(int(declared))
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        limits.check_body(size)
        if not declared:
            held.add(len(chunk))
    return b"".join(chunks)


async def _read_form(request: Request, data: bytes, limits: Limits, body: Body) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(data), FIELD_BYTES):
            yield data[start : start + FIELD_BYTES]
            await asyncio.sleep(0)  # others have their turn

    parser = MultiPartParser(
        request.headers,
        stream(),  # type: ignore[arg-type]
        max_files=limits.images,
        max_fields=MOST_FIELDS,
        max_part_size=FIELD_BYTES,
    )
    parser.spool_max_size = limits.request_bytes + 1  # nothing goes to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        kind = TooLargeError if error.message.startswith("Too many files") else BadRequestError
        raise kind(f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError, LookupError) as error:
        raise BadRequestError(f"the form cannot be read: {error}.") from None
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                own = _short(value.filename or name)
                body.images.append(Upload(own, await value.read(), name))
            else:
                body.values[name] = value
    finally:
        await form.close()


def _read_json(data: bytes, limits: Limits, body: Body) -> None:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not JSON.") from None
    if not isinstance(given, dict):
        raise BadRequestError("the body is not a JSON object.")
    images = given.pop("images", [])
    if not isinstance(images, list):
        raise BadRequestError('"images" is not a list.')
    if given.get("image") is not None:
        images = [*images, given.pop("image")]
    inputs = given.pop("inputs", {})
    if not isinstance(inputs, dict):
        raise BadRequestError('"inputs" is not an object.')
    body.values |= given
    body.images += _decoded(images, limits)
    for name, value in inputs.items():
        several = value if isinstance(value, list) else [value]
        if several and all(isinstance(each, str | dict) for each in several):
            body.images += _decoded(several, limits, name)
        else:
            body.values[name] = value


def _decoded(images: Sequence[Any], limits: Limits, of: str = "") -> list[Upload]:
    """Images in base64, for an input or for the only one."""
    limits.check_count(len(images))
    made = []
    for i, image in enumerate(images):
        name = ""
        if isinstance(image, dict):
            name, image = _short(str(image.get("name", ""))), image.get("base64")
        if not isinstance(image, str):
            raise BadRequestError(f"image {i} is not a text in base64.")
        if image.startswith("data:"):  # as browsers write images
            image = image.partition(",")[2]
        try:
            made.append(Upload(name, base64.b64decode(image, validate=True), of))
        except (binascii.Error, ValueError):
            raise BadRequestError(f"image {i} is not base64.") from None
    return made


def _short(name: str) -> str:
    return name[:NAME_LETTERS]
