"""Writes layers.md, the reference of all layer types, from the classes' docstrings and the
comments in caffe.proto: `make docs`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

import moka.schema
from moka.layers import REGISTRY, Entry
from moka.layers.base import Param
from moka.schema import caffe_pb2

PAGE = Path(__file__).with_name("layers.md")
PROTO = Path(moka.schema.__file__).with_name("caffe.proto")
INTRODUCTION = f"""\
# Layers

All {len(REGISTRY)} layer types, by family. "Unset" means that the layer decides; where several
values may be given, "none" are. Made by `make docs` from the docstrings in `src/moka/layers` and
the comments in `caffe.proto`; a test keeps it up to date.
"""
FIELD = re.compile(r"\s*(?:optional|repeated|required) \S+ (\w+) = [^;]*;\s*(?://\s*(.*))?$")


def field_comments() -> dict[str, dict[str, str]]:
    """For each message of caffe.proto what is said of its fields."""
    found: dict[str, dict[str, str]] = {}
    message, above = "", list[str]()
    for line in PROTO.read_text().splitlines():
        if start := re.match(r"message (\w+)", line):
            message = start[1]
            above = []
        elif comment := re.match(r"\s+// ?(.*)", line):
            above.append(comment[1])
        elif field := FIELD.match(line):
            parts = [" ".join(above), field[2] or ""]
            said = " ".join(part[:1].upper() + part[1:] for part in parts if part)
            found.setdefault(message, {})[field[1]] = said
            above = []
        else:
            above = []
    return found


def families() -> dict[str, list[Entry]]:
    """The registry's entries by the first sentence of the file they are in, in its order."""
    found: dict[str, list[Entry]] = {}
    for entry in REGISTRY.values():
        module = sys.modules[class_of(entry).__module__]
        heading = re.split(r"[.:]\s", (module.__doc__ or "").replace("\n", " "))[0].strip(". ")
        found.setdefault(heading, []).append(entry)
    return dict(sorted(found.items()))


def class_of(entry: Entry) -> type[Any]:
    assert isinstance(entry.make, type)
    return entry.make


def escaped(text: str) -> str:
    """Text whose signs are not to be taken for Markdown's, but for what stands in backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def default_of(field: Param, descriptor: FieldDescriptor) -> str:
    if field.required:
        return "has to be given"
    if descriptor.is_repeated:
        return "none"
    if not descriptor.has_default_value:
        return "unset"
    value = descriptor.default_value
    if descriptor.enum_type is not None:
        return f"`{descriptor.enum_type.values_by_number[value].name}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{str(value).lower() if isinstance(value, bool) else format(value, 'g')}`"


def table(entry: Entry, comments: dict[str, dict[str, str]]) -> Iterator[str]:
    yield "| field | default | |"
    yield "|---|---|---|"
    for field in class_of(entry).fields:
        home = field.of or entry.message
        parent: Any = caffe_pb2.LayerParameter.DESCRIPTOR
        if home:
            parent = parent.fields_by_name[home].message_type
        descriptor = parent.fields_by_name[field.name]
        said = comments.get(parent.name, {}).get(field.name, "")
        allowed = f" ({field.check.text})" if field.check else ""
        where = f" of {field.of}" if field.of else ""
        yield (
            f"| `{field.name}`{where} | {default_of(field, descriptor)}{escaped(allowed)} |"
            f" {escaped(said)} |"
        )


def page() -> str:
    """The whole page."""
    comments = field_comments()
    lines = [INTRODUCTION]
    for heading, entries in families().items():
        lines += [f"## {heading}", ""]
        for entry in sorted(entries, key=lambda e: e.type):
            lines += [f"### {entry.type}", ""]
            lines += [escaped(inspect.getdoc(class_of(entry)) or ""), ""]
            if class_of(entry).fields:
                lines += [f"Fields of `{entry.message}`:", "", *table(entry, comments), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
