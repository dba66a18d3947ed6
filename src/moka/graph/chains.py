"""Chains of in-place layers: which one is the last to write into their blob."""

from __future__ import annotations

from collections.abc import Sequence

from moka.graph.wiring import Node


def in_place_tails(nodes: Sequence[Node]) -> dict[int, int]:
    """For each in-place layer that others follow on the same blob: the last of those layers."""
    writers: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for j, top in enumerate(node.tops):
            if node.in_place(j):
                writers.setdefault(top, []).append(i)
    return {i: chain[-1] for chain in writers.values() for i in chain[:-1]}
