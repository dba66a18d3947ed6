from __future__ import annotations

import typing
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from moka.errors import NetError
from moka.layers import all_entries
from moka.layers.base import Layer
from moka.layers.options import LAYER, Option, field_value, message_with, option, positive
from moka.layers.registry import Entry
from moka.schema import caffe_pb2, parse_text
from moka.schema.fields import is_repeated

NUMBERS = {
    FieldDescriptor.CPPTYPE_BOOL: bool,
    FieldDescriptor.CPPTYPE_FLOAT: float,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
}


def field_of(declared: Option, entry: Entry) -> Any:
    config = caffe_pb2.LayerParameter()
    homes = entry.messages if declared.of is None else (declared.of,)
    message = message_with(config, homes or (LAYER,), declared.name)
    return message.DESCRIPTOR.fields_by_name[declared.name]


def type_in_schema(declared: Option, field: Any) -> Any:
    """The type of what a layer gets for an option."""
    if field.message_type is not None:
        one: Any = getattr(caffe_pb2, field.message_type.name)
    elif field.enum_type is not None or field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        one = str
    else:
        one = NUMBERS.get(field.cpp_type, int)
    if is_repeated(field):
        return tuple[one, ...]
    may_be_none = declared.unset_is_none or not field.has_default_value
    if field.message_type is None and may_be_none and not declared.required:
        return one if declared.default is not None else one | None
    return one


@pytest.mark.parametrize("entry", all_entries(), ids=lambda entry: entry.type)
def test_every_annotation_is_what_the_schema_says(entry: Entry) -> None:
    said = typing.get_type_hints(entry.make)
    for declared in entry.make.options:
        wanted = type_in_schema(declared, field_of(declared, entry))
        assert said[declared.attribute] == wanted, declared.name


def config(text: str) -> caffe_pb2.LayerParameter:
    return parse_text(text, caffe_pb2.LayerParameter)


def test_an_option_is_read_from_the_message_that_is_set() -> None:
    class Either(Layer):
        entry = Entry(
            "Either",
            bottoms=1,
            tops=1,
            message="pooling_param",
            other_messages=("convolution_param",),
        )
        stride_h: int | None = option(positive)
        pool: str = option()  # only the first message has it

    def made(text: str) -> Either:
        return Either(config(f'top: "y" {text}'), (2, 3))

    assert made("").stride_h is None
    assert made("pooling_param { stride_h: 2 pool: AVE }").stride_h == 2
    in_the_other = made("convolution_param { stride_h: 3 }")
    assert (in_the_other.stride_h, in_the_other.pool) == (3, "MAX")
    with pytest.raises(NetError, match="give either pooling_param or convolution_param, not both"):
        made("pooling_param { } convolution_param { }")


def test_an_option_of_layer_parameter_itself() -> None:
    class Named(Layer):
        entry = Entry("Named", bottoms=1, tops=1, message="pooling_param")
        name: str = option(of=LAYER)

    assert Named(config('name: "it" top: "y"'), (2, 3)).name == "it"


def test_a_default_where_the_schema_has_none() -> None:
    class Reader(Layer):
        entry = Entry("Reader", bottoms=1, tops=1, message="data_param")
        source: str = option(default="nowhere")

    assert Reader(config('top: "y"'), (2, 3)).source == "nowhere"
    assert Reader(config('top: "y" data_param { source: "here" }'), (2, 3)).source == "here"


def test_values_of_fields() -> None:
    message = config("pooling_param { pool: AVE } slice_param { slice_point: [1, 2] }")
    assert field_value(message.pooling_param, "pool") == "AVE"
    assert field_value(message.pooling_param, "stride") == 1
    assert field_value(message.pooling_param, "stride", unset_is_none=True) is None
    assert field_value(message.slice_param, "slice_point") == (1, 2)
