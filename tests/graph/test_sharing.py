from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.errors import NetError
from moka.graph.sharing import LearnableBlob, Sharing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.graph.conftest import NodeMaker

    from moka.graph import Node
    from moka.types import Shape

Params = tuple[str, ...]


def text_of(*layers: str) -> str:
    """A chain of layers with the given `param` entries."""
    made = ['layer { name: "in" type: "Input" top: "b0" }']
    for i, params in enumerate(layers):
        made.append(f'layer {{ name: "l{i}" type: "One" bottom: "b{i}" top: "b{i + 1}" {params} }}')
    return "\n".join(made)


def share(nodes: Sequence[Node], shapes: Sequence[Sequence[Shape]]) -> tuple[LearnableBlob, ...]:
    """All parameters, the layers added one by one."""
    sharing = Sharing()
    for node, theirs in zip(nodes, shapes, strict=True):
        sharing.add(node, theirs)
    return sharing.blobs


def test_every_parameter_once_with_its_factors(make_nodes: NodeMaker) -> None:
    nodes = make_nodes(text_of("param { lr_mult: 2 decay_mult: 0 }", ""))
    blobs = share(nodes, [[], [(2, 3), (2,)], [(4,)]])
    assert [(b.owner, b.lr_mult, b.decay_mult) for b in blobs] == [
        ((1, 0), 2, 0),
        ((1, 1), 1, 1),
        ((2, 0), 1, 1),
    ]
    assert all(b.users == (b.owner,) for b in blobs)


def test_the_first_layer_with_a_name_owns_it(make_nodes: NodeMaker) -> None:
    named = 'param { name: "w" } param { name: "b" }'
    nodes = make_nodes(text_of(named, "", named))
    blobs = share(nodes, [[], [(2, 3), (2,)], [(5,)], [(2, 3), (2,)]])
    assert [(b.name, b.owner, b.users) for b in blobs] == [
        ("w", (1, 0), ((1, 0), (3, 0))),
        ("b", (1, 1), ((1, 1), (3, 1))),
        ("", (2, 0), ((2, 0),)),
    ]


def test_adding_a_layer_tells_what_it_shares(make_nodes: NodeMaker) -> None:
    named = 'param { name: "w" } param { name: "b" }'
    inputs, *nodes = make_nodes(text_of(named, "", named))
    sharing = Sharing()
    found = [sharing.add(inputs, [])]
    for node in nodes:
        found.append(sharing.add(node, [(2, 3), (2,)]))
    assert [[(blob.name, blob.owner) for blob in blobs] for blobs in found] == [
        [],
        [],
        [],
        [("w", (1, 0)), ("b", (1, 1))],
    ]


def test_a_layer_may_share_with_itself(make_nodes: NodeMaker) -> None:
    nodes = make_nodes(text_of('param { name: "w" } param { name: "w" }'))
    (blob,) = share(nodes, [[], [(2,), (2,)]])
    assert blob.users == ((1, 0), (1, 1))


@pytest.mark.parametrize(
    ("first", "second"), [("lr_mult: 3", ""), ("", "lr_mult: 3"), ("lr_mult: 3", "lr_mult: 3")]
)
def test_any_sharer_may_give_the_factors(make_nodes: NodeMaker, first: str, second: str) -> None:
    nodes = make_nodes(text_of(f'param {{ name: "w" {first} }}', f'param {{ name: "w" {second} }}'))
    (blob,) = share(nodes, [[], [(2,)], [(2,)]])
    assert blob.lr_mult == 3


def test_permissive_sharing_compares_counts(make_nodes: NodeMaker) -> None:
    nodes = make_nodes(text_of('param { name: "w" }', 'param { name: "w" share_mode: PERMISSIVE }'))
    assert len(share(nodes, [[], [(2, 3)], [(3, 2)]])) == 1
    with pytest.raises(NetError, match=r"count mismatch.*is \(2, 3\); sharing layer expects \(7,"):
        share(nodes, [[], [(2, 3)], [(7,)]])


@pytest.mark.parametrize(
    ("second", "shape", "message"),
    [
        ("", (3, 2), "Cannot share param 'w' owned by layer 'l0' with layer 'l1'; shape mismatch"),
        ("", (3, 2), "share_mode: PERMISSIVE asks for equal counts only"),
        ("lr_mult: 2", (2, 3), "Shared param 'w' has mismatched lr_mult: 1 before, 2 here"),
        ("decay_mult: 2", (2, 3), "Shared param 'w' has mismatched decay_mult: 0 before, 2 here"),
    ],
)
def test_what_does_not_fit(
    make_nodes: NodeMaker, second: str, shape: tuple[int, ...], message: str
) -> None:
    nodes = make_nodes(
        text_of('param { name: "w" lr_mult: 1 decay_mult: 0 }', f'param {{ name: "w" {second} }}')
    )
    with pytest.raises(NetError, match=message) as caught:
        share(nodes, [[], [(2, 3)], [shape]])
    assert caught.value.layer == "l1"


def test_more_entries_than_parameters(make_nodes: NodeMaker) -> None:
    nodes = make_nodes(text_of("param { } param { }"))
    with pytest.raises(NetError, match="Too many params specified: 2 entries for 1 parameters"):
        share(nodes, [[], [(2,)]])
