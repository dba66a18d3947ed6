"""Passes that keep little: the backward pass computes most blobs again instead of keeping them.

A net is cut into segments. Of each but the last, only the blobs that later segments need outlive
the forward pass; the backward pass runs the segment again before it goes through it (Chen et al.,
2016). The numbers are the same, bit for bit; a step computes most of its forward pass twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from math import inf, prod

from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from moka.engine.ways import tops_in_bottoms
from moka.layers.base import Way
from moka.layers.late_checks import collecting_checks
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
            # The inputs say on which device random numbers are drawn, which come again.
            tensors = (*blobs.values(), *inputs.values())
            tops = checkpoint(segment, *tensors, use_reentrant=False)
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
        # Its first run has checked the labels. The second one may run in a thread of autograd, for
        # which nobody collects checks, and would wait for the device at each.
        with collecting_checks() if self._has_run else nullcontext():
            blobs = self._net.propagate(
                self._inputs,
                self._keep,
                start=self._start,
                begun=dict(zip(self._bottoms, tensors, strict=False)),
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
    """Where to cut a net so that a training pass takes least memory for blobs, estimated by their
    sizes.

    Early blobs of most nets are large and late ones small, so early segments become short; in a
    chain of equal layers they shrink from the last to the first. The last segment, which alone is
    computed once, is as long as the memory allows.
    """
    memory = _BlobMemory(net)
    best = [len(net.places)]
    too_little, enough = 0, memory.uncut
    while enough - too_little > max(1, enough // 100):
        limit = (too_little + enough) // 2
        if ends := memory.ends_within(limit):
            best, enough = ends, limit
        else:
            too_little = limit
    return best


class _BlobMemory:
    """The memory of a net's blobs in a training pass, in elements.

    While the backward pass goes through a segment, there are the blobs on the borders before it,
    the blobs that its layers have made, and the gradients of one layer's bottoms and tops.

    Attributes:
        uncut: at most what a pass without cuts takes.
    """

    def __init__(self, net: Net) -> None:
        self._made = [0] * len(net.places)  # by each layer
        self._gradients = [0] * len(net.places)  # while each layer runs backward
        self._alive = [0] * (len(net.places) + 1)  # on the border before each layer
        keep = {*net.graph.outputs, *(name for name, _ in net.loss_tops)}
        lies_in = tops_in_bottoms(net, keep)
        blobs = [0] * len(net.places)  # of each layer, with memory of their own
        home: dict[str, int] = {}  # by blob, the layer in whose memory it lies
        needed: dict[int, int] = {}  # by layer, the last one that reads its memory
        for place in net.places:
            node, index = place.node, place.index
            if not node.bottoms:  # data is there anyhow
                home.update(dict.fromkeys(node.tops, index))
                continue
            needed.update((home[name], index) for name in node.bottoms)
            bottoms, tops = (
                sum(prod(net.blobs[name].shape) for name in names)
                for names in (node.bottoms, node.tops)
            )
            self._made[index] = tops * place.layer.kept_for_gradient
            if index in lies_in:
                home.update(dict.fromkeys(node.tops, home[lies_in[index]]))
            else:
                home.update(dict.fromkeys(node.tops, index))
                blobs[index] = tops
                self._made[index] += tops
            if not place.layer.makes_views:
                self._gradients[index] = bottoms + tops
        needed.update((home[name], len(net.places)) for name in keep)
        for index, reader in needed.items():
            for border in range(index + 1, reader + 1):
                self._alive[border] += blobs[index]
        self.uncut = sum(self._made) + max(self._gradients, default=0)

    def ends_within(self, limit: int) -> list[int]:
        """Where to cut so that there is never more than `limit`; empty if that cannot be.

        Of all ways to reach a border, the one with the least on the borders before it counts.
        """
        count = len(self._made)
        kept: list[float] = [0, *[inf] * count]  # on the borders up to this one
        before = [0] * (count + 1)
        for start in range(count):
            made = peak = 0
            for end in range(start + 1, count + 1):
                made += self._made[end - 1]
                peak = max(peak, made + self._gradients[end - 1])
                if kept[start] + peak > limit:
                    break
                on_border = self._alive[end]
                if kept[start] + on_border < kept[end]:
                    kept[end], before[end] = kept[start] + on_border, start
                if end == count:
                    return _cuts(before, start, count)
        return []


def _cuts(before: Sequence[int], start: int, end: int) -> list[int]:
    """The ends of all segments, the last from `start` to `end`, given where each begins."""
    ends = [end]
    while start:
        ends.append(start)
        start = before[start]
    return ends[::-1]
