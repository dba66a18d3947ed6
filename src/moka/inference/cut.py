"""Cut a net into pieces that a backend can run and layers that run by themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from moka.inference.contract import Backend
from moka.inference.flow import Flow, acts
from moka.net import Net, Place


@dataclass(frozen=True)
class Piece:
    """Layers that run as one.

    Attributes:
        places: the layers, in running order.
        inputs, outputs: values that it takes and gives.
    """

    places: tuple[Place, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Step = Piece | Place


def cut(net: Net, flow: Flow, wanted: Collection[int], fits: Callable[[Place], bool]) -> list[Step]:
    """The steps of a pass in running order; layers that no wanted value needs are left out.

    As many layers as possible share a piece: a layer's level counts how often one has to leave a
    piece, and come back into another, on the way to it. A piece is all fitting layers of a level.
    Layers that act keep their order.

    Args:
        fits: whether the backend takes a layer; it takes none that acts.
    """
    needed = needed_layers(net, flow, wanted)
    inside: defaultdict[int, list[Place]] = defaultdict(list)
    outside: defaultdict[int, list[Place]] = defaultdict(list)
    level_of: dict[int, int] = dict.fromkeys(flow.given.values(), 0)
    made_outside: set[int] = set()
    acting_level = 0
    for place in net.places:
        i = place.index
        if not place.node.bottoms or place.layer.entry.is_plumbing:
            continue
        fitting = fits(place)
        level = max(level_of[v] + (fitting and v in made_outside) for v in flow.bottoms[i])
        if acts(place):
            level = acting_level = max(level, acting_level)
        level_of.update(dict.fromkeys(flow.tops[i], level))
        if not fitting:
            made_outside.update(flow.tops[i])
        if i in needed:
            (inside if fitting else outside)[level].append(place)
    steps: list[Step] = []
    for level in range(max(level_of.values(), default=0) + 1):
        if inside[level]:
            steps.append(_piece(inside[level], flow))
        steps += outside[level]
    return _with_outputs(steps, flow, set(wanted))


def fits(
    net: Net, flow: Flow, backend: Backend, left_out: Collection[str] = ()
) -> Callable[[Place], bool]:
    """Which layers a backend may run in pieces. By themselves run those that it does not take,
    those that act or whose shapes depend on values, and those with labels or indices, which they
    check.

    Args:
        left_out: names of layers that the backend has refused.
    """
    varying = varying_layers(net, flow)

    def is_fitting(place: Place) -> bool:
        bottoms = range(len(place.node.bottoms))
        return (
            place.index not in varying
            and not acts(place)
            and not any(k in bottoms for k in place.node.fixed_bottoms)
            and place.node.name not in left_out
            and backend.takes(place)
        )

    return is_fitting


def needed_layers(net: Net, flow: Flow, wanted: Collection[int]) -> set[int]:
    """The numbers of the layers that wanted values depend on, and that layers which act do."""
    values, found = {*wanted, *flow.acted.values()}, set()
    for place in reversed(net.places):
        i = place.index
        if values.intersection(flow.tops[i]):
            found.add(i)
            values.update(flow.bottoms[i])
    return found


def _piece(places: Iterable[Place], flow: Flow) -> Piece:
    places = tuple(places)
    made = {v for place in places for v in flow.tops[place.index]}
    taken = dict.fromkeys(v for place in places for v in flow.bottoms[place.index])
    return Piece(places, tuple(v for v in taken if v not in made), tuple(made))


def _with_outputs(steps: list[Step], flow: Flow, wanted: set[int]) -> list[Step]:
    """The steps, whose pieces give only what is wanted or what other steps take."""
    read = set(wanted)
    for step in steps:
        read.update(step.inputs if isinstance(step, Piece) else flow.bottoms[step.index])
    return [
        Piece(step.places, step.inputs, tuple(v for v in sorted(step.outputs) if v in read))
        if isinstance(step, Piece)
        else step
        for step in steps
    ]


def last_uses(steps: Sequence[Step], flow: Flow) -> list[list[int]]:
    """For each step the values that it takes and no later step does."""
    last: dict[int, int] = {}
    for k, step in enumerate(steps):
        taken = step.inputs if isinstance(step, Piece) else flow.bottoms[step.index]
        last.update(dict.fromkeys(taken, k))
    free: list[list[int]] = [[] for _ in steps]
    for value, k in last.items():
        free[k].append(value)
    return free


def varying_layers(net: Net, flow: Flow) -> set[int]:
    """The numbers of the layers whose shapes depend on values."""
    found: set[int] = set()
    values: set[int] = set()
    for place in net.places:
        i = place.index
        if place.layer.entry.shapes_from_data or values.intersection(flow.bottoms[i]):
            found.add(i)
            values.update(flow.tops[i])
    return found
