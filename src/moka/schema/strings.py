"""Strings of a message that are not UTF-8: text while Python has them, bytes in files.

Protobuf takes strings of UTF-8 only from Python. Others that it reads from a file it shows as
bytes; `moka.byte_text` makes texts of them, and bytes again when the message is written.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from moka.byte_text import has_other_bytes, to_bytes, to_text
from moka.schema.fields import descriptor_of, is_repeated
from moka.varint import varint

M = TypeVar("M", bound=Message)


def with_text(message: M) -> M:
    """Turn each string of a message that was just read and shows as bytes into text, in place."""
    for part, field, values in _strings(message):
        if any(isinstance(value, bytes) for value in values):
            texts = [as_text(value) for value in values]
            part.ClearField(field.name)
            if is_repeated(field):
                getattr(part, field.name).extend(texts)
            else:
                setattr(part, field.name, texts[0])
    return message


def with_bytes(message: M) -> M:
    """The message to be written, each string as its bytes; the message given stays as it is."""
    if not any(_other_bytes(values) for _, _, values in _strings(message)):
        return message
    written = type(message)()
    written.CopyFrom(message)
    for part, field, values in _strings(written):
        if _other_bytes(values):
            part.ClearField(field.name)
            for value in values:
                data = value if isinstance(value, bytes) else to_bytes(value)
                # The setter refuses these bytes; the reader of binary messages takes them.
                part.MergeFromString(varint(field.number << 3 | 2) + varint(len(data)) + data)
    return written


def as_text(value: str | bytes) -> str:
    """The text of a string that protobuf shows as bytes if it is not UTF-8."""
    return to_text(value) if isinstance(value, bytes) else value


def _other_bytes(values: list[str | bytes]) -> bool:
    return any(isinstance(value, str) and has_other_bytes(value) for value in values)


def _strings(message: Message) -> Iterator[tuple[Message, FieldDescriptor, list[str | bytes]]]:
    """(message, field, values) of all string fields that are set, at any depth."""
    names = _fields_with_strings(descriptor_of(message))
    for field, value in message.ListFields():
        if field.name in names:
            values = list(value) if is_repeated(field) else [value]
            if field.message_type is None:
                yield message, field, values
            else:
                for member in values:
                    yield from _strings(member)


@functools.cache
def _fields_with_strings(descriptor: Descriptor) -> frozenset[str]:
    """Names of the fields that are strings or messages with strings somewhere inside."""
    return frozenset(
        field.name
        for field in descriptor.fields
        if field.type == FieldDescriptor.TYPE_STRING
        or (field.message_type is not None and _fields_with_strings(field.message_type))
    )
