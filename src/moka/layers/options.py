"""Options: the fields of a prototxt that a layer reads, declared and typed where it is defined.

    num_output: int = option(positive, required=True)
    kernel_h: int | None = option(positive)
    pool: str = option()
    offset: tuple[int, ...] = option()

The annotation says what the layer gets. Enums are their names, repeated fields are tuples, and a
field that the user did not set and that has no default in `caffe.proto` is None. A test compares
each annotation with the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from moka.errors import NetError
from moka.schema import caffe_pb2
from moka.schema.fields import is_repeated

LAYER = ""  # LayerParameter itself, where an option may lie instead of in one of its messages


class Check(NamedTuple):
    """A condition on an option's value, and its words in error messages."""

    holds: Callable[[Any], bool]
    text: str


positive = Check(lambda v: v > 0, "> 0")
not_negative = Check(lambda v: v >= 0, ">= 0")
classes = Check(lambda v: 0 < v <= 10**6, "1 to 1000000")  # each of which is looked at


class Option:
    """A declared field. See `option`.

    Attributes:
        name: of the field.
        attribute: of the layer, which holds its value.
    """

    name: str
    attribute: str

    def __init__(
        self,
        check: Check | None,
        of: str | None,
        unset_is_none: bool,
        required: bool,
        default: Any,
        field: str | None = None,
    ) -> None:
        self.check = check
        self.of = of
        self.unset_is_none = unset_is_none
        self.required = required
        self.default = default
        self.field = field

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.attribute = self.field or name, name

    def read(self, config: caffe_pb2.LayerParameter, messages: Sequence[str]) -> Any:
        """The value of this option in a layer's configuration.

        Args:
            messages: the layer's own messages, as fields of LayerParameter. The option is read
                from the one that is set, or else from the first that has it.

        Raises:
            NetError: a required option is missing, or a value does not meet the check.
        """
        homes = messages if self.of is None else (self.of,)
        value = field_value(
            message_with(config, homes or (LAYER,), self.name), self.name, self.unset_is_none
        )
        if value is None:
            if self.required:
                raise NetError(f"{self.name} is missing.")
            return self.default
        if self.check:
            for item in value if isinstance(value, tuple) else (value,):
                if not self.check.holds(item):
                    raise NetError(f"{self.name} must be {self.check.text}, got {item:g}.")
        return value


def option(
    check: Check | None = None,
    *,
    of: str | None = None,
    unset_is_none: bool = False,
    required: bool = False,
    default: Any = None,
    field: str | None = None,
) -> Any:
    """Declare a field that the layer reads.

    Args:
        check: a condition that every value has to meet.
        of: the field of LayerParameter in whose message the option lies, if that is not the
            layer's own message; `LAYER` for a field of LayerParameter itself.
        unset_is_none: None when the user did not set it, even if the schema has a default.
        required: the user has to set it.
        default: the value if the user did not set it and the schema has no default.
        field: its name, if the attribute cannot have it.
    """
    return Option(check, of, unset_is_none, required, default, field)


def message_with(
    config: caffe_pb2.LayerParameter, names: Sequence[str], field_name: str
) -> Message:
    """The message that holds a field: of all that have it the one that is set, else the first.

    Args:
        names: fields of LayerParameter; `LAYER` is the configuration itself.
    """
    having = [
        (name, message)
        for name in names
        if field_name
        in (message := getattr(config, name) if name else config).DESCRIPTOR.fields_by_name
    ]
    return next((m for name, m in having if not name or config.HasField(name)), having[0][1])


def field_value(message: Message, name: str, unset_is_none: bool = False) -> Any:
    """A field as an option's value: enum names, tuples, None where unset without a default."""
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if is_repeated(field):
        return tuple(value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return value
    if not message.HasField(name) and (unset_is_none or not field.has_default_value):
        return None
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value
