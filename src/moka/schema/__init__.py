"""Caffe's messages: their definition, their text and binary forms, the upgrade of older ones."""

from moka.schema.text import (
    UnknownFields,
    format_text,
    parse_text,
    read_binary,
    read_text,
    unknown_fields_are,
    write_binary,
    write_text,
)

__all__ = [
    "UnknownFields",
    "format_text",
    "parse_text",
    "read_binary",
    "read_text",
    "unknown_fields_are",
    "write_binary",
    "write_text",
]
