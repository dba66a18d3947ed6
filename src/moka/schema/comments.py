"""The comments in caffe.proto, which say what each field is for."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_PROTO = Path(__file__).with_name("caffe.proto")
_FIELD = re.compile(r"\s*(?:optional|repeated|required) \S+ (\w+) = [^;]*;\s*(?://\s*(.*))?$")


class Comment(NamedTuple):
    """The comment of a field: the lines above it, without indentation, and the words beside it."""

    above: tuple[str, ...]
    beside: str


@functools.cache
def field_comments() -> Mapping[str, Mapping[str, Comment]]:
    """The comment of each field, by message and field."""
    found: dict[str, dict[str, Comment]] = {}
    message, above = "", list[str]()
    for line in _PROTO.read_text("utf-8").splitlines():
        if start := re.match(r"message (\w+)", line):
            message = start[1]
            above = []
        elif comment := re.match(r"\s+// ?(.*)", line):
            above.append(comment[1])
        else:
            if field := _FIELD.match(line):
                said = Comment(tuple(above), field[2] or "")
                found.setdefault(message, {})[field[1]] = said
            above = []
    return found


def running_text(comment: Comment) -> str:
    """A comment as running text."""
    parts = [re.sub(r"\s+", " ", " ".join(comment.above)).strip(), comment.beside]
    return " ".join(part[:1].upper() + part[1:] for part in parts if part)
