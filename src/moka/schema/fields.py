"""Questions about messages and their fields, for every version of protobuf."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message


def is_repeated(field: Any) -> bool:
    """Whether a field holds a list."""
    try:
        return field.is_repeated
    except AttributeError:  # protobuf before 6.30
        return field.label == FieldDescriptor.LABEL_REPEATED


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """The type of a message."""
    return cast(Descriptor, message.DESCRIPTOR)


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum of a field that holds one of its values."""
    return cast(EnumDescriptor, field.enum_type)
