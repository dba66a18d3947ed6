"""Leave out options of forks that only steer another program's engine, with one line in the log."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TypeVar

from google.protobuf.message import Message

from moka.schema import caffe_pb2
from moka.schema.fields import descriptor_of, is_repeated
from moka.schema.forks import ENGINE_OPTIONS, RISTRETTO
from moka.types import PathLike

M = TypeVar("M", bound=Message)

log = logging.getLogger("moka")


def without_engine_options(message: M, file: PathLike) -> M:
    """Return a net or solver without such options; the message given does not change."""
    if not _clear(message, dry=True):
        return message
    new = type(message)()
    new.CopyFrom(message)
    found = _clear(new, dry=False)
    names = (f"{name} ({times})" if times > 1 else name for name, times in found.items())
    log.info("%s: ignored, since they only steer another engine: %s", file, ", ".join(names))
    return new


def _clear(message: Message, *, dry: bool) -> Counter[str]:
    """Clear the options in a message and its members, or only count them."""
    found: Counter[str] = Counter()
    options = ENGINE_OPTIONS.get(descriptor_of(message).name, frozenset())
    for field, value in message.ListFields():
        if field.name in options and not _is_read(message, field.name):
            found[field.name] += 1
            if not dry:
                message.ClearField(field.name)
        elif field.message_type is not None and field.message_type.name in ENGINE_OPTIONS:
            for member in value if is_repeated(field) else (value,):
                found += _clear(member, dry=dry)
    return found


def _is_read(message: Message, name: str) -> bool:
    return (
        name == "quantization_param"
        and isinstance(message, caffe_pb2.LayerParameter)
        and message.type.endswith(RISTRETTO)
    )
