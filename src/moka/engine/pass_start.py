"""What a training pass began with, so that the very same pass can be run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from moka.context import random_states, set_random_states
from moka.net import Net


@dataclass(frozen=True)
class PassStart:
    """Everything that a pass depends on beside the parameters that a solver trains.

    Attributes:
        inputs: tops of the layers without bottoms, by name.
        random: states of the random generators, by name, once those tops were made.
        statistics: parameters that a pass changes by itself (BatchNorm's sums), by layer.
        handed_on: what layers hand from pass to pass (`Layer.run_state`), by layer.
    """

    inputs: Mapping[str, Tensor]
    random: Mapping[str, Tensor]
    statistics: Mapping[int, list[Tensor]]
    handed_on: Mapping[int, list[Tensor]]


def pass_start(net: Net, inputs: Mapping[str, Tensor]) -> PassStart:
    """Record the net's state just before a pass; only small arrays are copied."""
    return PassStart(
        {name: tensor.detach() for name, tensor in inputs.items()},
        random_states(net.device),
        _copies(_statistics(net)),
        {p.index: state for p in net.places if (state := p.layer.run_state())},
    )


def go_back(net: Net, start: PassStart) -> None:
    """Put a net where it stood; the tops of the layers without bottoms are in its blobs then."""
    for name, tensor in start.inputs.items():
        net.blobs[name].data_memory.put(tensor)
    _take_state(net, start)


@contextmanager
def back_at(net: Net, start: PassStart) -> Iterator[None]:
    """Within, the net's state is that of a start; afterwards it is what it was. Blobs stay."""
    now = pass_start(net, {})
    _take_state(net, start)
    try:
        yield
    finally:
        _take_state(net, now)


def _take_state(net: Net, start: PassStart) -> None:
    set_random_states(start.random, net.device)
    for i, found in _statistics(net).items():
        torch._foreach_copy_(found, start.statistics[i])
    for i, state in start.handed_on.items():
        net.places[i].layer.load_run_state(state)


def _copies(statistics: Mapping[int, list[Tensor]]) -> dict[int, list[Tensor]]:
    """Copies of all, made in one operation: on a GPU each operation costs the host some time."""
    tensors = [tensor for found in statistics.values() for tensor in found]
    copies = iter(torch._foreach_mul(tensors, 1)) if tensors else iter(())
    return {i: [next(copies) for _ in found] for i, found in statistics.items()}


def statistics_of(net: Net) -> list[Tensor]:
    """The parameters that a pass in training changes (BatchNorm's sums), in order."""
    return [tensor for found in _statistics(net).values() for tensor in found]


def _statistics(net: Net) -> dict[int, list[Tensor]]:
    """The parameters that a pass in training changes, by layer."""
    return {
        place.index: [place.layer.weights_unseen()[k].detach() for k in place.layer.state_blobs]
        for place in net.places
        if place.layer.state_blobs
    }
