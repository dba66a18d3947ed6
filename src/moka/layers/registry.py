"""Layer types by name. An entry is plain data; listing, help and arity checks need no instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from moka.graph.wiring import Arity
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from moka.layers.base import Layer

L = TypeVar("L", bound="type[Layer]")


@dataclass(frozen=True)
class Entry:
    """What is known of a layer type without making one.

    Attributes:
        type: its name in a prototxt.
        make: its class.
        message: the field of LayerParameter that configures it, None if there is none.
        bottoms, tops: how many; n, or (least, most) with None for "no limit".
        one_top_each: makes one top for each bottom.
        is_loss: its first top has a loss weight of 1 unless the net says otherwise.
        fixed_bottoms: indices of bottoms that never take a gradient (labels); -1 is the last.
        state_blobs: how many of its parameters are state that no solver may touch.
    """

    type: str
    make: Callable[..., Layer]
    message: str | None
    bottoms: Arity
    tops: Arity
    one_top_each: bool
    is_loss: bool
    fixed_bottoms: tuple[int, ...]
    state_blobs: int = 0


_entries: dict[str, Entry] = {}
REGISTRY: Mapping[str, Entry] = MappingProxyType(_entries)


def layer(
    type_name: str,
    *,
    bottoms: Arity,
    tops: Arity,
    message: str | None = None,
    one_top_each: bool = False,
    is_loss: bool = False,
    fixed_bottoms: tuple[int, ...] = (),
    state_blobs: int = 0,
) -> Callable[[L], L]:
    """Register a layer class under its type name. A second registration is refused.

    Args:
        message: only where it is not the snake_case type plus `_param`.
    """

    def register(cls: L) -> L:
        if type_name in _entries:
            raise ValueError(f"layer type {type_name} is registered twice")
        entry = Entry(
            type_name,
            cls,
            message or _message_of(type_name),
            bottoms,
            tops,
            one_top_each,
            is_loss,
            fixed_bottoms,
            state_blobs,
        )
        cls.entry = entry
        _entries[type_name] = entry
        return cls

    return register


def _message_of(type_name: str) -> str | None:
    """The LayerParameter field whose message is named after the type, if there is one."""
    wanted = f"{type_name}Parameter"
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.name == wanted:
            return field.name
    return None
