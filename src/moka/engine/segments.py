"""Passes that keep little: the backward pass computes most blobs again instead of keeping them.

A net is cut into segments. Of each but the last, only the blobs that later segments need outlive
the forward pass; the backward pass runs the segment again before it goes through it (Chen et al.,
2016). The numbers are the same, bit for bit; a step computes most of its forward pass twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import prod

from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from moka.layers.base import Way
from moka.net import Net


def propagate_in_segments(
    net: Net,
    inputs: Mapping[str, Tensor],
    keep: Collection[str],
    ends: Sequence[int],
    ways: Mapping[int, Way],
) -> dict[str, Tensor]:
    """As `net.propagate`, in segments.

    Args:
        inputs: the tops of all layers without bottoms.
        keep: blobs to return.
        ends: one behind the last layer of each segment, in order; the last is the number of layers.
        ways: as `net.propagate`'s; they write over no blob of an earlier segment.
    """
    blobs: dict[str, Tensor] = {}
    for start, end in pairwise((0, *ends)):
        if end == ends[-1]:
            return net.propagate(inputs, keep, start=start, begun=blobs, end=end, ways=ways)
        segment = _Segment(net, inputs, keep, start, end, list(blobs), ways)
        with set_checkpoint_early_stop(False):  # a layer that is repeated has to come to its end
            tops = checkpoint(segment, *blobs.values(), use_reentrant=False)
        blobs = dict(zip(segment.names, tops, strict=True))
    return blobs


class _Segment:
    """Some layers as a function of the blobs before them; the second call repeats the first.

    Attributes:
        names: of the tensors that the last call has returned.
    """

    def __init__(
        self,
        net: Net,
        inputs: Mapping[str, Tensor],
        keep: Collection[str],
        start: int,
        end: int,
        bottoms: list[str],
        ways: Mapping[int, Way],
    ) -> None:
        self._net, self._inputs, self._keep = net, inputs, keep
        self._start, self._end, self._bottoms = start, end, bottoms
        self._ways = ways
        self._has_run = False
        self.names: list[str] = []

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        blobs = self._net.propagate(
            self._inputs,
            self._keep,
            start=self._start,
            begun=dict(zip(self._bottoms, tensors, strict=True)),
            end=self._end,
            again=self._has_run,
            ways=self._ways,
        )
        self._has_run = True
        self.names = list(blobs)
        return tuple(blobs.values())


def marked_ends(net: Net) -> list[int]:
    """Where the layers marked `checkpoint: true` cut a net; empty if none is marked."""
    ends = [place.index + 1 for place in net.places if place.node.layer.checkpoint]
    count = len(net.places)
    return ends + [count] * (ends[-1] != count) if ends else []


def best_ends(net: Net) -> list[int]:
    """Where to cut a net so that a training pass keeps least, estimated by the sizes of its blobs.

    For each number of segments they are given equal shares of all blobs; the best number is near
    the square root of the number of layers.
    """
    sizes = [sum(prod(net.blobs[top].shape) for top in p.node.tops) for p in net.places]
    alive = _alive_after(net)
    total, count = sum(sizes), len(sizes)
    best, least = [count], float(total)
    for segments in range(2, count + 1):
        ends = _equal_shares(sizes, total / segments)
        longest = max(sum(sizes[start:end]) for start, end in pairwise((0, *ends)))
        kept = longest + sum(alive[end - 1] for end in ends[:-1])
        if kept < least:
            best, least = ends, kept
    return best


def _equal_shares(sizes: Sequence[int], share: float) -> list[int]:
    ends, filled = [], 0.0
    for end, size in enumerate(sizes, 1):
        filled += size
        if filled >= share:
            ends.append(end)
            filled = 0.0
    if not ends or ends[-1] != len(sizes):
        ends.append(len(sizes))
    return ends


def _alive_after(net: Net) -> list[int]:
    """After each layer, the elements of all blobs that later layers need."""
    alive: dict[str, int] = {}
    found = []
    for place in net.places:
        if place.node.bottoms:  # data is there anyhow
            alive.update((top, prod(net.blobs[top].shape)) for top in place.node.tops)
        for name in place.freed:
            alive.pop(name, None)
        found.append(sum(alive.values()))
    return found
