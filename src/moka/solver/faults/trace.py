"""A pass run again layer by layer, to find the first array with a number that is not finite."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import prod

from torch import Tensor

from moka.engine.layerwise import Layerwise
from moka.engine.pass_start import PassStart, go_back
from moka.net import Net, Place


@dataclass(frozen=True)
class ArraySummary:
    """The range of one array of a pass, and its first number that is not finite.

    Attributes:
        forward: whether the array belongs to the forward pass; else it is a gradient.
        layer, layer_type: the layer that makes the array, or holds it.
        what: "top blob ip", "param blob 0", "bottom blob data".
        shape: the array's.
        minimum, maximum, mean_abs: over its finite numbers; 0 if there are none.
        not_finite: how many numbers are infinite or NaN.
        first, value: index and value of the first of those; None if all are finite.
    """

    forward: bool
    layer: str
    layer_type: str
    what: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    mean_abs: float
    not_finite: int
    first: tuple[int, ...] | None
    value: float | None

    @property
    def place(self) -> str:
        """`top blob ip of layer "ip" (InnerProduct), forward`."""
        way = "forward" if self.forward else "backward"
        return f'{self.what} of layer "{self.layer}" ({self.layer_type}), {way}'

    @property
    def is_of_parameter(self) -> bool:
        """Whether it is a parameter or a parameter's gradient, whose first axis is no batch."""
        return self.what.startswith("param ")

    @property
    def extent(self) -> str:
        """`3 of 12 values, the first is nan at (0, 2)`: the values that are not finite."""
        at = f" at ({', '.join(map(str, self.first))})" if self.first else ""
        return f"{self.not_finite} of {prod(self.shape)} values, the first is {self.value}{at}"


def trace_pass(net: Net, start: PassStart) -> Generator[ArraySummary, None, None]:
    """Run a pass again, forward and backward, and summarize each array as it is made.

    The order is that of the pass: each layer's parameters, then its tops; on the way back the
    gradients of its bottoms, then those of its parameters. Parameters' gradients are zeroed first.
    Layers without tops do not run, since some of them write files. Afterwards the net stands where
    the pass left it.

    Args:
        start: what the pass began with.
    """
    with net.parameters_in_use():
        yield from _arrays_of_pass(net, start)


def _arrays_of_pass(net: Net, start: PassStart) -> Iterator[ArraySummary]:
    engine = Layerwise(net)
    engine.debug_info = False
    go_back(net, start)
    engine.clear_param_diffs()
    for place in net.places:
        node = place.node
        for k, weight in enumerate(place.layer.weights):
            yield _summary(place, f"param blob {k}", weight, forward=True)
        if node.bottoms and node.tops:
            engine.forward(place.index, place.index)
        for top in node.tops:
            tensor = net.blobs[top].data_memory.tensor()
            yield _summary(place, f"top blob {top}", tensor, forward=True)
    for place in reversed(net.places):
        if place.marks.layer and place.node.tops:
            engine.backward(place.index, place.index)
            yield from _gradients(net, place)


def first_fault(net: Net, start: PassStart) -> ArraySummary | None:
    """The first array of a pass that is not finite; None if all are.

    Afterwards the net is as it was at the start of that pass.
    """
    with closing(trace_pass(net, start)) as arrays:
        fault = next((array for array in arrays if array.not_finite), None)
    go_back(net, start)
    return fault


def _gradients(net: Net, place: Place) -> Iterator[ArraySummary]:
    marks = place.marks
    for bottom, wanted in zip(place.node.bottoms, marks.bottoms, strict=True):
        if wanted:
            diff = net.blobs[bottom].diff_memory.tensor()
            yield _summary(place, f"bottom blob {bottom}", diff, forward=False)
    for k, (weight, wanted) in enumerate(zip(place.layer.weights, marks.params, strict=True)):
        if wanted and weight.grad is not None:
            yield _summary(place, f"param blob {k}", weight.grad, forward=False)


def _summary(place: Place, what: str, values: Tensor, *, forward: bool) -> ArraySummary:
    values = values.detach()
    finite = values.isfinite()
    good = values[finite]
    bad = (~finite).nonzero()
    return ArraySummary(
        forward=forward,
        layer=place.node.name,
        layer_type=place.node.type,
        what=what,
        shape=tuple(values.shape),
        minimum=float(good.min()) if good.numel() else 0.0,
        maximum=float(good.max()) if good.numel() else 0.0,
        mean_abs=float(good.abs().mean()) if good.numel() else 0.0,
        not_finite=len(bad),
        first=tuple(bad[0].tolist()) if len(bad) else None,
        value=float(values[tuple(bad[0])]) if len(bad) else None,
    )
