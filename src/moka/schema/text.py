"""Reading and writing messages, as text (.prototxt) and as bytes (.caffemodel, .binaryproto).

Errors name the file, the line, the column, the field, and the nearest field that exists.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from moka.errors import SchemaError, did_you_mean
from moka.files import write_atomically
from moka.schema import caffe_pb2
from moka.types import PathLike

M = TypeVar("M", bound=Message)


def parse_text(text: str, message_type: type[M], file: PathLike = "(text)") -> M:
    """Parse prototxt text into a new message.

    Raises:
        SchemaError: names `file`, line, column, and for an unknown field the nearest known one.
    """
    message = message_type()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _text_error(error, message_type, file) from None
    return message


def read_text(path: PathLike, message_type: type[M]) -> M:
    """Read a prototxt file. Raises SchemaError if it is missing or cannot be parsed."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise cannot_open(path, error) from None
    if b"\0" in data:
        raise SchemaError(
            f"Failed to parse {message_type.DESCRIPTOR.name} file: {os.fspath(path)}: it is not"
            " text.",
            advice="A binary model is loaded as weights, its description is a .prototxt.",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # an old editor's comments
    return parse_text(text, message_type, path)


def format_text(message: Message) -> str:
    """The message as prototxt text, fields in the order of their numbers."""
    return text_format.MessageToString(message, use_index_order=False)


def read_binary(path: PathLike, message_type: type[M]) -> M:
    """Read a binary message. Raises SchemaError if it is missing, truncated or something else."""
    message = message_type()
    try:
        message.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise cannot_open(path, error) from None
    except DecodeError:
        raise SchemaError(
            f"this is not a complete binary {message_type.DESCRIPTOR.name}: it is truncated, or"
            " another kind of file.",
            file=path,
            advice="Compare its size or checksum with the original and fetch it again.",
        ) from None
    return message


def write_binary(path: PathLike, message: Message) -> None:
    """Write a binary message so that the file is complete or not there at all."""
    data = message.SerializeToString()
    write_atomically(path, lambda file: file.write(data))


def write_text(path: PathLike, message: Message) -> None:
    """Write a message as prototxt so that the file is complete or not there at all."""
    data = format_text(message).encode()
    write_atomically(path, lambda file: file.write(data))


def cannot_open(path: PathLike, error: OSError) -> SchemaError:
    """The error for a file that could not be opened, from what the system said."""
    if isinstance(error, FileNotFoundError):
        return SchemaError(
            f"File not found: {os.fspath(path)}",
            advice=f"(Relative names start at the current directory, {os.getcwd()}.)",
        )
    return SchemaError(f"{error.strerror}.", file=path)


def _text_error(
    error: text_format.ParseError, message_type: type[Message], file: PathLike
) -> SchemaError:
    line, column = error.GetLine(), error.GetColumn()
    fact = re.sub(r"^\d+:\d+ : ", "", str(error)).strip().rstrip(".")
    place = f"{os.fspath(file)}:{line}:{column}" if line is not None else os.fspath(file)
    return SchemaError(
        f"Failed to parse {message_type.DESCRIPTOR.name} file: {place}: Error parsing text-format"
        f" {message_type.DESCRIPTOR.full_name}: {fact}.",
        advice=_advice(fact, message_type),
    )


def _advice(fact: str, message_type: type[Message]) -> str | None:
    """What to do about an unknown field or enum value, from the parser's own words."""
    if found := re.search(r'Message type "([\w.]+)" has no field named "([^"]+)"', fact):
        descriptor = caffe_pb2.DESCRIPTOR.pool.FindMessageTypeByName(found[1])
        root = message_type.DESCRIPTOR
        if descriptor != root and found[2] in root.fields_by_name:
            return 'Is a "}" missing above it?'
        for other in (caffe_pb2.NetParameter, caffe_pb2.SolverParameter):
            theirs = other.DESCRIPTOR
            if descriptor == root != theirs and found[2] in theirs.fields_by_name:
                return f"It is a field of {theirs.name}: is this the right file?"
        return did_you_mean(found[2], [f.name for f in descriptor.fields])
    if found := re.search(r'Enum type "([\w.]+)" has no value named ([\w."]+)', fact):
        enum = caffe_pb2.DESCRIPTOR.pool.FindEnumTypeByName(found[1])
        names = [v.name for v in enum.values]
        return did_you_mean(found[2].strip('"'), names) or f"Known: {', '.join(names)}."
    return None
