from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.graph import in_place_tails

if TYPE_CHECKING:
    from tests.graph.conftest import NodeMaker


def chain(*blobs: str) -> str:
    """An input "a" and layers of one bottom and one top: "ab" reads a and makes b."""
    layers = [
        f'layer {{ name: "l{k}" type: "One" bottom: "{blob[0]}" top: "{blob[1]}" }}'
        for k, blob in enumerate(blobs)
    ]
    return 'layer { name: "in" type: "Input" top: "a" top: "t" }' + "".join(layers)


@pytest.mark.parametrize(
    ("blobs", "tails"),
    [
        (("ab", "bc"), {}),
        (("ab", "bb"), {}),
        (("ab", "bb", "bb", "bb", "bc"), {2: 4, 3: 4}),
        (("ab", "bb", "bb", "bc", "cc", "cc"), {2: 3, 5: 6}),
        (("aa", "aa"), {1: 2}),
    ],
)
def test_in_place_tails(
    make_nodes: NodeMaker, blobs: tuple[str, ...], tails: dict[int, int]
) -> None:
    assert in_place_tails(make_nodes(chain(*blobs))) == tails
