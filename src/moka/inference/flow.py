"""The values that flow through a net, each with a number of its own.

Blobs have names, but an in-place layer writes a new value under the old name, and a Split gives one
value several names. Programs are cut along values.

A layer acts if it does more than compute: it hands something to the next pass, draws, or is the
user's code, which may do anything. It runs exactly once in each pass, so whoever needs its tops
again, to make a program or to compute a blob later, is given those of the pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from moka.net import Net, Place


@dataclass(frozen=True)
class Flow:
    """Which value is where.

    Attributes:
        bottoms, tops: of each layer, in running order.
        given: the tops of layers without bottoms, by blob.
        acted: the tops of layers that act, by blob.
        final: the last value of each blob.
        names: of each value the blob that it is made in.
    """

    bottoms: tuple[tuple[int, ...], ...]
    tops: tuple[tuple[int, ...], ...]
    given: Mapping[str, int]
    acted: Mapping[str, int]
    final: Mapping[str, int]
    names: tuple[str, ...]

    def values_of(self, blobs: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """The values among blobs that no layer has to compute."""
        known = {**self.given, **self.acted}
        return {value: blobs[name] for name, value in known.items() if name in blobs}


def acts(place: Place) -> bool:
    """Whether a layer with bottoms does more than compute."""
    return bool(place.node.bottoms) and not place.layer.is_pure


def flow_of(net: Net) -> Flow:
    """Number the values of a net."""
    bottoms: list[tuple[int, ...]] = []
    tops: list[tuple[int, ...]] = []
    given: dict[str, int] = {}
    acted: dict[str, int] = {}
    final: dict[str, int] = {}
    names: list[str] = []
    for place in net.places:
        node = place.node
        taken = tuple(final[name] for name in node.bottoms)
        if place.layer.entry.is_plumbing:
            made = taken[:1] * len(node.tops)
        else:
            made = tuple(range(len(names), len(names) + len(node.tops)))
            names += node.tops
        if not node.bottoms:
            given.update(zip(node.tops, made, strict=True))
        elif acts(place):
            acted.update(zip(node.tops, made, strict=True))
        final.update(zip(node.tops, made, strict=True))
        bottoms.append(taken)
        tops.append(made)
    return Flow(tuple(bottoms), tuple(tops), given, acted, final, tuple(names))
