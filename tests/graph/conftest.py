"""Layer types as plain data: nothing in these tests needs a layer, or a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from moka.graph import Node
from moka.graph.splits import insert_splits
from moka.graph.wiring import Arity, EntryLike, wire
from moka.schema import caffe_pb2, parse_text

Registry = Mapping[str, EntryLike]
NodeMaker = Callable[[str], tuple[Node, ...]]


@dataclass(frozen=True)
class PlainEntry:
    bottoms: Arity = 1
    tops: Arity = 1
    one_top_each: bool = False
    is_loss: bool = False
    fixed_bottoms: tuple[int, ...] = ()
    state_blobs: int = 0
    source: str | None = None
    is_plumbing: bool = False
    fork: str | None = None
    aliases: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    coordinates: str | None = None


@pytest.fixture
def registry() -> Registry:
    return {
        "Input": PlainEntry(bottoms=0, tops=(1, None), source="caller"),
        "Split": PlainEntry(tops=(1, None)),
        "One": PlainEntry(),
        "Join": PlainEntry(bottoms=(2, None)),
        "Each": PlainEntry(bottoms=(1, None), tops=(1, None), one_top_each=True),
        "Loss": PlainEntry(bottoms=2, tops=(1, 2), is_loss=True, fixed_bottoms=(1,)),
        "Sink": PlainEntry(bottoms=(1, None), tops=0),
        "Pick": PlainEntry(bottoms=(2, None), fixed_bottoms=(-1,)),
        "Stateful": PlainEntry(state_blobs=2),
    }


@pytest.fixture
def make_nodes(registry: Registry) -> NodeMaker:
    """Nodes of a net from its text, splits inserted."""

    def make(text: str) -> tuple[Node, ...]:
        return wire(insert_splits(parse_text(text, caffe_pb2.NetParameter)), registry)[0]

    return make
