"""Cheaper ways to run a pass: layers that do the work of the one before, or write over its blob.

The layers stay what they are; they say themselves which ways there are. A way is taken only where
nobody can see the blob between: it is read by one layer, and its name is not asked for, or stands
for what a later layer leaves there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from moka.engine.precision import InFloat32
from moka.layers.base import Layer, Way
from moka.net import Net, Place


class Ways:
    """The ways of one net, found anew when layers have got hooks or another mode.

    Args:
        net: the net.
        in_half: whether passes are in mixed precision: layers that do not work in half precision
            then run by `InFloat32`.
    """

    def __init__(self, net: Net, *, in_half: bool = False) -> None:
        self._net, self._in_half = net, in_half
        self._found: Mapping[int, Way] = {}
        self._found_for: tuple[int, Collection[str] | None, tuple[int, ...]] | None = None

    def of_pass(self, keep: Collection[str] | None, cuts: Sequence[int] = ()) -> Mapping[int, Way]:
        """Ways by the index of the layer.

        Args:
            keep: the blobs that somebody looks at after a pass; None: all.
            cuts: no blob that goes over one of these borders between layers may be written over,
                since the layers behind run again.
        """
        state = (Layer.mode_changes, keep, tuple(cuts))
        if state != self._found_for:
            self._found = find_ways(self._net, keep, cuts, in_half=self._in_half)
            self._found_for = state
        return self._found


def find_ways(
    net: Net,
    keep: Collection[str] | None = None,
    cuts: Sequence[int] = (),
    *,
    in_half: bool = False,
) -> dict[int, Way]:
    """As `Ways.of_pass`."""
    return _choose(net, keep, cuts, in_half=in_half)[0]


def tops_in_bottoms(net: Net, keep: Collection[str]) -> dict[int, str]:
    """The layers whose tops have no memory of their own in a pass that is not cut: by index, the
    bottom in whose memory they lie.

    Args:
        keep: the blobs that somebody looks at after the pass.
    """
    found = {p.index: p.node.bottoms[0] for p in net.places if p.layer.makes_views}
    return found | _choose(net, keep)[1]


def _choose(
    net: Net,
    keep: Collection[str] | None,
    cuts: Sequence[int] = (),
    *,
    in_half: bool = False,
) -> tuple[dict[int, Way], dict[int, str]]:
    """The ways; of each that makes no memory for its tops, the bottom in which they lie."""
    ways: dict[int, Way] = {}
    lies_in: dict[int, str] = {}
    does_work_of: dict[int, Place] = {}  # the layer before, by the layer that is merged with it
    made_by: dict[str, Place] = {}
    free_tops = _free_tops(net, keep)
    for place in net.places:
        node = place.node
        for j, name in enumerate(node.bottoms):
            maker = made_by.get(name)
            is_free = maker is not None and (maker.index, name) in free_tops
            if maker is None or not is_free or place.detached or not is_as_made(place):
                continue
            if maker.index not in ways and (merged := maker.layer.merged_with(place.layer)):
                ways[maker.index], ways[place.index] = _PassOn(), merged
                lies_in[maker.index] = maker.node.bottoms[0]
                does_work_of[place.index] = maker
                break
            is_cut = any(maker.index < cut <= place.index for cut in cuts)
            spares = maker.layer.spares_top and not isinstance(ways.get(maker.index), _PassOn)
            if spares and not is_cut and (way := place.layer.overwriting(j)):
                ways[place.index] = way
                lies_in[place.index] = name
                break
        made_by.update(dict.fromkeys(node.tops, place))
    for place in net.places if in_half else ():
        working = does_work_of.get(place.index, place)
        way = ways.get(place.index, place.layer)
        if (
            place.node.bottoms
            and working.layer.precision == "float32"
            and not isinstance(way, _PassOn)
        ):
            ways[place.index] = InFloat32(way)
    return ways, lies_in


class _PassOn:
    """Leaves the work to the layer that reads the top."""

    def __call__(self, x: Tensor) -> Tensor:
        return x

    again = __call__


def _free_tops(net: Net, keep: Collection[str] | None) -> set[tuple[int, str]]:
    """The tops, by layer and name, that one layer reads and nobody else sees."""
    readers: dict[tuple[int, str], int] = {}
    last: dict[str, int] = {}
    for place in net.places:
        for name in place.node.bottoms:
            key = (last[name], name)
            readers[key] = readers.get(key, 0) + 1
        last.update(dict.fromkeys(place.node.tops, place.index))
    seen = set(last if keep is None else keep)
    losses = {name for name, _ in net.loss_tops}
    return {
        (index, name)
        for (index, name), count in readers.items()
        if count == 1
        and not (name in seen and last[name] == index)
        and name not in losses
        and is_as_made(place := net.places[index])
        and place.node.bottoms
        and place.half is None
        and not place.observers
    }


def is_as_made(place: Place) -> bool:
    """Whether nobody has hooked into a layer, or changed it: then it may run in another way."""
    layer = place.layer
    hooks = (
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    )
    return not any(hooks) and not {"forward", "again"} & vars(layer).keys()
