"""Caffe's messages: their definition, their text and binary forms, the upgrade of older ones."""

from moka.schema.text import (
    format_text,
    parse_text,
    read_binary,
    read_text,
    write_binary,
    write_text,
)

__all__ = ["format_text", "parse_text", "read_binary", "read_text", "write_binary", "write_text"]
