"""Messages for text that fits no field: the fact, and what to write instead."""

from __future__ import annotations

import re
import unicodedata

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from moka.errors import did_you_mean, nearest
from moka.schema import caffe_pb2
from moka.schema.fields import descriptor_of, enum_of
from moka.schema.fork_types import FOREIGN, FORK_OF, NOT_IN_V1, instead_of, is_v1_name
from moka.schema.forks import FIRST_FORK_NUMBER
from moka.schema.tokens import TextError, Token, shown
from moka.schema.upgrade.v1 import TYPES as V1_TYPES

QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u2032\u2033\u00ab\u00bb\uff02\uff07"
_LARGE = 1e15  # no integer field holds more that anybody writes with an exponent
_V1_NAMES = {today: old for old, today in V1_TYPES.items()}
# Places that a program fills in, as $WIDTH, ${WIDTH}, {{ width }}, %WIDTH%, %d and %(width)d.
_PLACEHOLDER = re.compile(r"\$(?:\w+|\{\w+\})|\{\{\s*\w+\s*\}\}|%(?:\(\w+\)[a-z]|\w+%?)", re.ASCII)


def unknown_field(
    token: Token, descriptor: Descriptor, root: Descriptor, layer_type: str = ""
) -> TextError:
    """The error for a field that a message does not have.

    Args:
        root: the type of the whole text.
        layer_type: of the layer that the message is, if it is one; of a V1 layer that has a type
            of a fork, in V1's spelling.
    """
    return TextError(
        f'Message type "{descriptor.full_name}" has no field named "{token.text}"',
        token.start,
        _about_type(layer_type, token.text) or _about_field(token.text, descriptor, root),
    )


def _about_type(layer_type: str, name: str) -> str | None:
    """What to say where not only a layer's field is unknown, but its type as well."""
    fork = FORK_OF.get(layer_type)
    if fork and (layer_type in FOREIGN or name.replace("_", "") == f"{layer_type.lower()}param"):
        return f"Moka does not have the layer type {layer_type} of {fork}."
    if not layer_type or is_layer_type(layer_type) or is_v1_name(layer_type):
        return None
    return f'Moka does not have the layer type "{layer_type}" either. {instead_of(layer_type)}'


def is_layer_type(name: str) -> bool:
    """Whether BVLC Caffe, or a fork that Moka knows, has a layer type of this name."""
    return name in _V1_NAMES or name in NOT_IN_V1


def _about_field(name: str, descriptor: Descriptor, root: Descriptor) -> str | None:
    if descriptor != root and name in root.fields_by_name:
        return 'Is a "}" missing above it?'
    for other in (caffe_pb2.NetParameter, caffe_pb2.SolverParameter):
        theirs = descriptor_of(other)
        if descriptor == root != theirs and name in theirs.fields_by_name:
            return f"It is a field of {theirs.name}: is this the right file?"
    members = _members_with(name, descriptor)
    if 0 < len(members) <= 3:
        return f"Write it inside {' or '.join(f'{f.name} {{ }}' for f in members)}."
    if descriptor != root and name in descriptor_of(caffe_pb2.LayerParameter).fields_by_name:
        return "It is a field of the layer itself: close the message around it first."
    if found := did_you_mean(name, _names(descriptor)):
        return found
    if "param_str" in descriptor.fields_by_name:
        return "If param_str holds double quotes, put it between single ones: '{\"n\": 4}'."
    return "No fork of Caffe that Moka knows has it: leave it out, or pass --unknown_fields=warn."


def _members_with(name: str, descriptor: Descriptor) -> list[FieldDescriptor]:
    """The messages in a message that have a field of this name; BVLC's before those of forks."""
    having = [
        (field, member.fields_by_name[name])
        for field in descriptor.fields
        if (member := field.message_type) and name in member.fields_by_name
    ]
    bvlc = [f for f, inner in having if max(f.number, inner.number) < FIRST_FORK_NUMBER]
    return bvlc or [field for field, _ in having]


def _names(descriptor: Descriptor) -> list[str]:
    return [f.name for f in descriptor.fields]


def unknown_value(token: Token, field: FieldDescriptor) -> TextError:
    """The error for a name that an enum does not have."""
    known = [value.name for value in enum_of(field).values]
    if today := _todays_form(token.text, field):
        what_to_do = today
    elif found := nearest(token.text, known):
        what_to_do = f'Did you mean "{found}"? Write {field.name}: {found}.'
    else:
        what_to_do = f"Known: {', '.join(known)}."
    return TextError(
        f'Enum type "{enum_of(field).full_name}" has no value named {token.text}',
        token.start,
        what_to_do,
    )


def unknown_number(number: int, token: Token, field: FieldDescriptor) -> TextError:
    """The error for a number that no value of an enum has."""
    known = ", ".join(f"{v.name} = {v.number}" for v in enum_of(field).values)
    return TextError(
        f'Enum type "{enum_of(field).full_name}" has no value with number {number}',
        token.start,
        f"Known: {known}.",
    )


def no_enum(token: Token, field: FieldDescriptor) -> TextError:
    """The error for something else where the name of an enum's value belongs."""
    if token.kind != "string":
        known = ", ".join(value.name for value in enum_of(field).values)
        return TextError(
            f"Expected a name for {field.name}, got: {shown(token)}",
            token.start,
            f"Known: {known}.",
        )
    unquoted = Token("word", token.text[1:-1], token.start)
    if today := _todays_form(unquoted.text, field):
        return TextError(
            f"The type of layers {{ }} is the name of an enum, not a string: {shown(token)}",
            token.start,
            today,
        )
    if unquoted.text not in enum_of(field).values_by_name:
        return unknown_value(unquoted, field)
    return TextError(
        f"Enum names take no quotes, found {shown(token)}",
        token.start,
        f"Write {field.name}: {unquoted.text}.",
    )


def _todays_form(text: str, field: FieldDescriptor) -> str | None:
    """Advice for a type of today's `layer` that stands inside a `layers`."""
    if field.full_name != "caffe.V1LayerParameter.type":
        return None
    today = nearest(text, V1_TYPES.values()) if text not in _V1_NAMES else text
    if not today:
        return f'Write layer {{ type: "{text}" ... }}: layers is the form of 2014.'
    return f'Write layers {{ type: {_V1_NAMES[today]} ... }} or layer {{ type: "{today}" ... }}.'


def no_value(token: Token, field: FieldDescriptor) -> TextError:
    """The error for the name of the next field where a value belongs."""
    return TextError(
        f"Expected a value for {field.name}, found {shown(token)}",
        token.start,
        f"Write a value after {field.name}:, or leave the line out.",
    )


def no_string(token: Token, field: FieldDescriptor) -> TextError:
    """The error for something without quotes where a string belongs."""
    if token.kind not in ("word", "number"):
        return TextError(f"Expected string, got: {shown(token)}", token.start)
    text = token.text
    if text in ("true", "false"):
        default = f', by default "{field.default_value}"' if field.default_value else ""
        return TextError(
            f"Expected string, got: {shown(token)}",
            token.start,
            f"Here {field.name} is a text{default}; a fork that writes {text} means something"
            " else.",
        )
    if field.full_name == "caffe.LayerParameter.type":
        text = V1_TYPES.get(text) or nearest(text, V1_TYPES.values()) or text
    return TextError(
        f"Expected string, got: {shown(token)}",
        token.start,
        f'Strings take quotes: write {field.name}: "{text}".',
    )


def no_number(token: Token, kind: str) -> TextError:
    """The error for something else where a number belongs.

    Args:
        kind: "integer" or "a number".
    """
    unquoted = token.text[1:-1].strip() if token.kind == "string" else ""
    is_number = unquoted.lstrip("+-").replace(".", "", 1).isdecimal()
    advice = f"Numbers take no quotes: write {unquoted}." if is_number else None
    if kind == "integer" and token.kind == "number" and (whole := _whole(token.text)) is not None:
        advice = f"Integers take no point and no exponent: write {whole}."
    return TextError(f"Expected {kind}, got: {shown(token)}", token.start, advice)


def _whole(text: str) -> int | None:
    """The integer that a decimal number is, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() and number < _LARGE else None


def no_bool(token: Token, field: FieldDescriptor) -> TextError:
    """The error for something else than true or false."""
    return TextError(
        f"Invalid value for boolean field {field.name}: {shown(token)}",
        token.start,
        f"Write {field.name}: true or {field.name}: false.",
    )


def strange_sign(text: str, start: int) -> str | None:
    """Advice for a sign that is not of this language, as web pages and word processors write.

    Args:
        text: one character for each byte.
        start: where the sign is.
    """
    if text.startswith(("//", "/*"), start):
        return "A comment begins with #."
    if place := _PLACEHOLDER.match(text, start):
        return f"{place[0]} stands for a value that a program fills in: write the value instead."
    sign = text[start : start + 4].encode("latin-1").decode("utf-8", "ignore")[:1]
    if not sign or sign.isascii():
        return None
    if sign in QUOTES:
        return 'Strings take the straight quotes of ASCII: ".'
    usual = "-" if unicodedata.category(sign) == "Pd" else unicodedata.normalize("NFKC", sign)
    if unicodedata.category(sign) in ("Zs", "Cf") or usual.isspace():
        return f"It is {_name_of(sign)}, which looks like a blank: write a blank there."
    if usual.isascii():
        return f"It is {_name_of(sign)}: write {usual}."
    return f"It is {_name_of(sign)}; beyond strings and comments all is ASCII."


def _name_of(sign: str) -> str:
    return f"U+{ord(sign):04X} ({unicodedata.name(sign, 'without a name').lower()})"
