"""Read and write files of messages, in text (.prototxt) and binary (.caffemodel, .binaryproto).

Errors name the file, line and column, and say what to write. Strings keep their bytes, whatever
their encoding.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from moka.errors import SchemaError
from moka.files import advice_on_missing, decode_text, read_bytes, write_atomically
from moka.schema.beginnings import FETCH_AGAIN, known_beginning
from moka.schema.parse import PlacedError, parse_into
from moka.schema.strings import with_bytes, with_text
from moka.types import PathLike

M = TypeVar("M", bound=Message)
UnknownFields = Literal["error", "warn"]
log = logging.getLogger("moka")

_unknown_fields: ContextVar[UnknownFields] = ContextVar("unknown_fields", default="error")


@contextmanager
def unknown_fields_are(treatment: UnknownFields) -> Iterator[None]:
    """Inside this context unknown fields are an "error", or skipped with a warning: "warn".

    A command's flag applies to whatever files a net or solver leads to.
    """
    token = _unknown_fields.set(treatment)
    try:
        yield
    finally:
        _unknown_fields.reset(token)


def parse_text(
    text: str,
    message_type: type[M],
    file: PathLike = "(text)",
    *,
    unknown_fields: UnknownFields | None = None,
) -> M:
    """Parse prototxt text into a new message.

    Args:
        unknown_fields: what a field or enum value is that neither BVLC Caffe nor a known fork has:
            an error, or a warning, after which it is skipped. None: see `unknown_fields_are`.

    Raises:
        SchemaError: names `file`, line, column, and for an unknown field the nearest known one.
    """
    message = message_type()
    treatment = unknown_fields or _unknown_fields.get()
    try:
        skipped = parse_into(text, message, skip_unknown=treatment == "warn")
    except PlacedError as error:
        kind = message_type.DESCRIPTOR
        raise SchemaError(
            f"Failed to parse {kind.name} file: {os.fspath(file)}:{error.line}:{error.column}:"
            f" Error parsing text-format {kind.full_name}: {error.fact}.",
            advice=error.advice,
        ) from None
    for line, column, sentence in skipped:
        log.warning("%s:%d:%d: %s.", os.fspath(file), line, column, sentence)
    return message


def read_text(
    path: PathLike, message_type: type[M], *, unknown_fields: UnknownFields | None = None
) -> M:
    """Read a prototxt file of any Unicode encoding; names in it may be in any other.

    Args:
        unknown_fields: see `parse_text`.

    Raises:
        SchemaError: it is missing or cannot be parsed.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise cannot_open(path, error) from None
    if found := known_beginning(data):
        raise SchemaError(
            f"Failed to parse {message_type.DESCRIPTOR.name} file: {os.fspath(path)}:"
            f" {found.fact}.",
            advice=found.advice,
        )
    text = decode_text(data)
    if "\0" in text:
        raise SchemaError(
            f"Failed to parse {message_type.DESCRIPTOR.name} file: {os.fspath(path)}: it is not"
            " text.",
            advice="It may be a model (.caffemodel), which is given as weights; a net's description"
            " is a .prototxt.",
        )
    return parse_text(text, message_type, path, unknown_fields=unknown_fields)


def format_text(message: Message) -> str:
    """The message as prototxt text, fields in the order of their numbers.

    Everything but ASCII is written as octal escapes, so the text holds the bytes of any name.
    """
    return text_format.MessageToString(with_bytes(message), use_index_order=False)


def read_binary(path: PathLike, message_type: type[M]) -> M:
    """Read a binary message. Raises SchemaError if it is missing, truncated or something else."""
    message, name = message_type(), message_type.DESCRIPTOR.name
    try:
        data = read_bytes(path)
    except OSError as error:
        raise cannot_open(path, error) from None
    try:
        message.ParseFromString(data)
    except DecodeError:
        if known := known_beginning(data):
            fact = f"{known.fact}; wanted is a binary {name}."
            raise SchemaError(fact, file=path, advice=known.advice) from None
        raise SchemaError(
            f"this is not a complete binary {name}: it is truncated, or another kind of file.",
            file=path,
            advice=FETCH_AGAIN,
        ) from None
    with_text(message)
    return message


def write_binary(path: PathLike, message: Message) -> None:
    """Write a binary message so that the file is complete or not there at all."""
    data = with_bytes(message).SerializeToString()
    write_atomically(path, lambda file: file.write(data))


def write_text(path: PathLike, message: Message) -> None:
    """Write a message as prototxt so that the file is complete or not there at all."""
    data = format_text(message).encode()
    write_atomically(path, lambda file: file.write(data))


def cannot_open(path: PathLike, error: OSError) -> SchemaError:
    """The error for a file that could not be opened, from what the system said."""
    if isinstance(error, FileNotFoundError):
        start = f"(Relative names start at the current directory, {os.getcwd()}.)"
        advice = advice_on_missing(path)
        return SchemaError(
            f"File not found: {os.fspath(path)}", advice=f"{advice} {start}" if advice else start
        )
    return SchemaError(f"{error.strerror}.", file=path)
