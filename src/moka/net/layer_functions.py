"""What `layers.Convolution` says of itself: a signature and help, made of the layer's message."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Iterator
from inspect import Parameter, Signature
from keyword import iskeyword
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from moka.layers import REGISTRY
from moka.schema import caffe_pb2
from moka.schema.comments import Comment, field_comments, running_text
from moka.schema.fields import is_repeated

LAYER: Any = caffe_pb2.LayerParameter.DESCRIPTOR  # its stub is a union of two classes
WIRING = ("type", "bottom", "top")  # which come of how the functions are called
OWN = {"ntop": 1, "in_place": False}  # what the functions take beside fields


class _EnumValue(int):
    """A value of an enumeration, shown by its name."""

    name = ""

    def __repr__(self) -> str:
        return self.name


@functools.cache
def known_fields(type_name: str) -> dict[str, Descriptor]:
    """The message that each keyword of a layer's function is a field of. The layer's own message
    counts more than LayerParameter."""
    own = own_message(type_name)
    return {field.name: message for message in (LAYER, own) if message for field in message.fields}


def own_message(type_name: str) -> Descriptor | None:
    """The message that configures a layer type, if it has one."""
    entry = REGISTRY.get(type_name)
    if entry is None or not entry.message:
        return None
    found: Descriptor = LAYER.fields_by_name[entry.message].message_type
    return found


def signature(type_name: str) -> Signature:
    """`(*bottoms, kernel_size=(), pool=MAX, ..., ntop=1, in_place=False, name=None, ...)`: the
    fields of the type's own message, then those that every layer has. `()` is nothing, `None` a
    field that is unset."""
    own = own_message(type_name)
    fields = [*(own.fields if own else ()), *_shared_fields()]
    defaults = {field.name: _default(field) for field in (own.fields if own else ())}
    defaults |= OWN
    for field in fields:
        defaults.setdefault(field.name, _default(field))
    parameters = [Parameter("bottoms", Parameter.VAR_POSITIONAL)]
    parameters += [
        Parameter(name, Parameter.KEYWORD_ONLY, default=value)
        for name, value in defaults.items()
        if not iskeyword(name)  # lambda, which can be given as **{"lambda": 1} only
    ]
    return Signature(parameters)


def help_text(type_name: str) -> str:
    """The layer's own docs, and what each field of its message is for."""
    entry, own = REGISTRY.get(type_name), own_message(type_name)
    parts = [inspect.getdoc(entry.make) or "" if entry else f"A layer of type {type_name}."]
    if own:
        lines = "\n".join(_described(own))
        parts.append(f"Fields of {own.name}:\n{lines}")
    parts.append(
        "Every layer also takes: ntop, how many tops it has (1); in_place, whether its top is its"
        f" bottom; {', '.join(field.name for field in _shared_fields())}."
    )
    return "\n\n".join([*parts[:-1], textwrap.fill(parts[-1], 96)])


def _shared_fields() -> list[FieldDescriptor]:
    """The fields of LayerParameter that any layer may have."""
    shared = ("transform_param", "loss_param")
    return [
        field
        for field in LAYER.fields
        if field.name not in WIRING and (not field.name.endswith("_param") or field.name in shared)
    ]


def _default(field: FieldDescriptor) -> Any:
    if is_repeated(field):
        return ()
    if field.message_type is not None or not field.has_default_value:
        return None
    if field.enum_type is not None:
        value = _EnumValue(field.default_value)
        value.name = field.enum_type.values_by_number[value].name
        return value
    return field.default_value


def _described(message: Descriptor) -> Iterator[str]:
    comments = field_comments().get(message.name, {})
    for field in message.fields:
        said = running_text(comments.get(field.name, Comment((), "")))
        if field.enum_type is not None:
            names = ", ".join(value.name for value in field.enum_type.values)
            said = f"{said} ({names})".strip()
        yield textwrap.fill(
            f"{field.name}: {said}".rstrip(": "),
            96,
            initial_indent="    ",
            subsequent_indent="        ",
        )
