"""Prototxt text into a message, as the text parser of protobuf in C++ reads it.

Unlike protobuf's own text parser for Python, this one takes strings in any encoding, and says what
to write where it cannot go on.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from moka.byte_text import to_bytes, to_text
from moka.errors import nearest
from moka.schema import advice
from moka.schema.fields import descriptor_of, enum_of, is_repeated
from moka.schema.fork_types import is_v1_name
from moka.schema.forks import FIRST_COUNTS, SKIPPED_BEGINNINGS, UNDESCRIBED, UNQUOTED_STRINGS
from moka.schema.tokens import TextError, Token, Tokens, shown, unclosed
from moka.schema.upgrade.v1 import TYPES as V1_TYPES

_INTEGER = re.compile(r"0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]*")
_MOST_DIGITS = 100  # more than any number has
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


def parse_into(
    text: str, message: Message, *, skip_unknown: bool = False
) -> list[tuple[int, int, str]]:
    """Read prototxt text into an empty message.

    Args:
        skip_unknown: go on after fields and enum values that no message here has.

    Returns:
        What was skipped: line, column and a sentence for each.

    Raises:
        PlacedError: the text is no message of this type.
    """
    tokens = Tokens(to_bytes(text).decode("latin-1"))
    reading = _Reading(tokens, descriptor_of(message), skip_unknown)
    try:
        reading.fields(message, end="")
    except TextError as error:
        what_to_do = error.advice or advice.strange_sign(tokens.text, error.start)
        raise PlacedError(error.fact, *tokens.place(error.start), what_to_do) from None
    return [(*tokens.place(fault.start), f"{fault.fact}: skipped") for fault in reading.skipped]


@dataclass
class PlacedError(Exception):
    """A fault in a prototxt with its line and column, both from 1."""

    fact: str
    line: int
    column: int
    advice: str | None


@dataclass(frozen=True)
class _Field:
    """The facts about a field that the parser needs.

    Attributes:
        full_name: as caffe.LayerParameter.name.
        read: reads one value from the tokens; None for messages.
        values: names of an enum's values.
        unquoted: a string that may lack its quotes.
    """

    name: str
    full_name: str
    repeated: bool
    read: Callable[[Tokens], Any] | None
    descriptor: FieldDescriptor
    values: frozenset[str]
    unquoted: bool


@functools.cache
def _fields_of(descriptor: Descriptor) -> dict[str, _Field]:
    return {
        field.name: _Field(
            field.name,
            field.full_name,
            is_repeated(field),
            _reader(field),
            field,
            frozenset(field.enum_type.values_by_name if field.enum_type else ()),
            field.type == FieldDescriptor.TYPE_STRING and descriptor.name in UNQUOTED_STRINGS,
        )
        for field in descriptor.fields
    }


@dataclass
class _Reading:
    """The reading of one text.

    Attributes:
        root: the type of the whole message.
        skip_unknown: whether unknown fields and enum values are skipped.
        skipped: faults that were.
    """

    tokens: Tokens
    root: Descriptor
    skip_unknown: bool
    skipped: list[TextError] = dataclass_field(default_factory=list)

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
            tokens.advance()
            if field is None:
                self._unknown_field(token, message)
            else:
                self._values(message, field)
            if not tokens.skip(","):
                tokens.skip(";")

    def _unknown_field(self, token: Token, message: Message) -> None:
        descriptor = descriptor_of(message)
        if descriptor.name == "V1LayerParameter":
            beyond: Message = message.fork_param  # type: ignore[attr-defined]
            if field := _fields_of(descriptor_of(beyond)).get(token.text):
                self._values(beyond, field)
                return
        type_of = {"LayerParameter": "type", "V1LayerParameter": "fork_type"}.get(descriptor.name)
        layer_type = getattr(message, type_of) if type_of else ""
        fault = advice.unknown_field(token, descriptor, self.root, layer_type)
        beginnings = SKIPPED_BEGINNINGS.get(descriptor.name, ())
        if not (
            self.skip_unknown
            or descriptor.name in UNDESCRIBED
            or token.text == "engine"
            or token.text.startswith(beginnings or "\0")
        ):
            raise fault
        if descriptor.name not in UNDESCRIBED:
            self.skipped.append(fault)
        self.tokens.skip_value()

    def _values(self, message: Message, field: _Field) -> None:
        """Read what follows a field's name: one value, or a list of them in brackets."""
        tokens = self.tokens
        start = tokens.next.start
        colon = tokens.skip(":")
        if field.read is not None and not colon:
            raise TextError(f'Expected ":", found {shown(tokens.next)}', start)
        if field.read is not None and not field.unquoted and tokens.at_field(start):
            raise advice.no_value(tokens.next, field.descriptor)
        several = field.repeated or field.full_name in FIRST_COUNTS
        if not several and message.HasField(field.name):
            raise TextError(
                f'Message type "{descriptor_of(message).full_name}" should not have multiple'
                f' "{field.name}" fields',
                tokens.next.start,
            )
        if not several or not tokens.skip("["):
            self._value(message, field)
        elif not tokens.skip("]"):
            self._value(message, field)
            while tokens.expect(",]") == ",":
                self._value(message, field)

    def _value(self, message: Message, field: _Field) -> None:
        if field.read is None:
            end = {"{": "}", "<": ">"}[self.tokens.expect("{<")]
            member = getattr(message, field.name)
            if field.repeated:
                member = member.add()
            else:
                member.SetInParent()
            self.fields(member, end)
        elif not (field.values and self._is_word_of_a_fork(message, field)):
            value = self._bare_word(field) or field.read(self.tokens)
            if field.repeated:
                getattr(message, field.name).append(value)
            elif field.full_name not in FIRST_COUNTS or not message.HasField(field.name):
                setattr(message, field.name, value)

    def _bare_word(self, field: _Field) -> str | None:
        if not field.unquoted or self.tokens.next.kind == "string":
            return None
        found = self.tokens.bare_word()
        return None if found is None else to_text(found)

    def _is_word_of_a_fork(self, message: Message, field: _Field) -> bool:
        """Take the name of an enum's value that only a fork has, if the next token is one."""
        token = self.tokens.next
        if token.kind != "word" or token.text in field.values:
            return False
        fault = advice.unknown_value(token, field.descriptor)
        if field.full_name == "caffe.V1LayerParameter.type" and (
            is_v1_name(token.text) or not nearest(token.text, (*field.values, *V1_TYPES.values()))
        ):
            message.fork_type = token.text  # type: ignore[attr-defined]
        elif field.name == "engine" or self.skip_unknown:
            self.skipped.append(fault)
        else:
            return False
        self.tokens.advance()
        return True


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
        raise advice.no_number(tokens.next, "integer")
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" else 10
    if len(text) > _MOST_DIGITS:
        raise TextError(f"Integer out of range: it has {len(text)} digits", start)
    value = sign * int(text, base)
    if not lowest <= value < end:
        raise TextError(f"Integer out of range ({value}): it is {lowest} to {end - 1} here", start)
    tokens.advance()
    return value


def _float(tokens: Tokens) -> float:
    sign = -1.0 if tokens.skip("-") else 1.0
    token = tokens.next
    if token.kind == "word" and token.text.lower() in _FLOAT_WORDS:
        text = _FLOAT_WORDS[token.text.lower()]
    elif token.kind == "number" and _DECIMAL.fullmatch(token.text):
        text = token.text.rstrip("fF")
    else:
        raise advice.no_number(token, "a number")
    tokens.advance()
    return sign * float(text)
