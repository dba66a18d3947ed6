"""Prototxt text into a message, as the text parser of protobuf in C++ reads it.

Unlike protobuf's own text parser for Python, this one takes strings in any encoding, and says what
to write where it cannot go on.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from moka.byte_text import to_bytes, to_text
from moka.schema import advice
from moka.schema.fields import descriptor_of, enum_of, is_repeated
from moka.schema.tokens import TextError, Tokens, shown, unclosed

_INTEGER = re.compile(r"0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]*")
_DECIMAL = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
_FLOAT_WORDS = {"inf": "inf", "infinity": "inf", "nan": "nan"}
_BOOLS = {
    **dict.fromkeys(("true", "True", "t", "1"), True),
    **dict.fromkeys(("false", "False", "f", "0"), False),
}
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64),
}


def parse_into(text: str, message: Message) -> None:
    """Read prototxt text into an empty message.

    Raises:
        PlacedError: the text is no message of this type.
    """
    tokens = Tokens(to_bytes(text).decode("latin-1"))
    try:
        _Reading(tokens, descriptor_of(message)).fields(message, end="")
    except TextError as error:
        raise PlacedError(error.fact, *tokens.place(error.start), error.advice) from None


@dataclass
class PlacedError(Exception):
    """A fault in a prototxt with its line and column, both from 1."""

    fact: str
    line: int
    column: int
    advice: str | None


@dataclass(frozen=True)
class _Field:
    """What reading needs to know about a field of a message.

    Attributes:
        read: reads one value from the tokens; None for messages.
    """

    name: str
    repeated: bool
    read: Callable[[Tokens], Any] | None


@functools.cache
def _fields_of(descriptor: Descriptor) -> dict[str, _Field]:
    return {f.name: _Field(f.name, is_repeated(f), _reader(f)) for f in descriptor.fields}


@dataclass
class _Reading:
    """The reading of one text.

    Attributes:
        root: the type of the whole message.
    """

    tokens: Tokens
    root: Descriptor

    def fields(self, message: Message, end: str) -> None:
        """Read fields up to the sign `end` ("": the end of the text)."""
        known = _fields_of(descriptor_of(message))
        tokens = self.tokens
        while True:
            token = tokens.next
            if token.kind == "end" and not end:
                return
            if end and tokens.skip(end):
                return
            if token.kind != "word":
                raise TextError(f"Expected the name of a field, found {shown(token)}", token.start)
            field = known.get(token.text)
            if field is None:
                raise advice.unknown_field(token, descriptor_of(message), self.root)
            tokens.advance()
            self._values(message, field)
            if not tokens.skip(","):
                tokens.skip(";")

    def _values(self, message: Message, field: _Field) -> None:
        """Read what follows a field's name: one value, or a list of them in brackets."""
        tokens = self.tokens
        colon = tokens.skip(":")
        if field.read is not None and not colon:
            raise TextError(f'Expected ":", found {shown(tokens.next)}', tokens.next.start)
        if not field.repeated:
            if message.HasField(field.name):
                raise TextError(
                    f'Message type "{descriptor_of(message).full_name}" should not have multiple'
                    f' "{field.name}" fields',
                    tokens.next.start,
                )
            self._value(message, field)
        elif not tokens.skip("["):
            self._value(message, field)
        elif not tokens.skip("]"):
            self._value(message, field)
            while tokens.expect(",]") == ",":
                self._value(message, field)

    def _value(self, message: Message, field: _Field) -> None:
        if field.read is not None:
            value = field.read(self.tokens)
            if field.repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
            return
        end = {"{": "}", "<": ">"}[self.tokens.expect("{<")]
        member = getattr(message, field.name)
        if field.repeated:
            member = member.add()
        else:
            member.SetInParent()
        self.fields(member, end)


def _reader(field: FieldDescriptor) -> Callable[[Tokens], Any] | None:
    """The function that reads one value of a field; None for messages."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return lambda tokens: to_text(_bytes(tokens, field))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda tokens: _bytes(tokens, field)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return None
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return lambda tokens: _enum(tokens, field)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return lambda tokens: _bool(tokens, field)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return _float
    return lambda tokens: _integer(tokens, *_BITS[field.cpp_type])


def _bytes(tokens: Tokens, field: FieldDescriptor) -> bytes:
    token = tokens.next
    if token.kind == "string":
        return tokens.bytes_of_strings()
    if token.kind == "unclosed":
        raise unclosed(token)
    raise advice.no_string(token, field)


def _enum(tokens: Tokens, field: FieldDescriptor) -> int:
    token = tokens.next
    if token.kind == "word":
        value = enum_of(field).values_by_name.get(token.text)
        if value is None:
            raise advice.unknown_value(token, field)
        tokens.advance()
        return value.number
    if token.kind == "number" or token.text == "-":
        number = _integer(tokens, *_BITS[FieldDescriptor.CPPTYPE_INT32])
        if number not in enum_of(field).values_by_number:
            raise advice.unknown_number(number, token, field)
        return number
    raise advice.no_enum(token, field)


def _bool(tokens: Tokens, field: FieldDescriptor) -> bool:
    if tokens.next.kind not in ("word", "number") or tokens.next.text not in _BOOLS:
        raise advice.no_bool(tokens.next, field)
    return _BOOLS[tokens.advance().text]


def _integer(tokens: Tokens, lowest: int, end: int) -> int:
    start = tokens.next.start
    sign = -1 if tokens.skip("-") else 1
    text = tokens.next.text
    if tokens.next.kind != "number" or not _INTEGER.fullmatch(text):
        raise TextError(f"Expected integer, got: {shown(tokens.next)}", start)
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" else 10
    value = sign * int(text, base)
    if not lowest <= value < end:
        raise TextError(f"Integer out of range ({value}): it is {lowest} to {end - 1} here", start)
    tokens.advance()
    return value


def _float(tokens: Tokens) -> float:
    start = tokens.next.start
    sign = -1.0 if tokens.skip("-") else 1.0
    token = tokens.next
    if token.kind == "word" and token.text.lower() in _FLOAT_WORDS:
        text = _FLOAT_WORDS[token.text.lower()]
    elif token.kind == "number" and _DECIMAL.fullmatch(token.text):
        text = token.text.rstrip("fF")
    else:
        raise TextError(f"Expected a number, got: {shown(token)}", start)
    tokens.advance()
    return sign * float(text)
