"""Blobs of a training pass that nobody has looked at: computed when somebody does.

pycaffe shows the data and the diff of every blob after a step, which nearly all programs leave
alone. Keeping them costs twice the memory of a training step (ResNet-50 at batch 10: 4.3 GB, of
which this leaves 2.0), so they are promised: whoever looks at one has the pass run again, from the
same batch, parameters, statistics and random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from moka.engine.pass_start import PassStart, back_at
from moka.memory import Memory
from moka.net import Net
from moka.types import Shape

REMEMBERED = 3  # passes for which a memory that was read is filled
LEAST_BYTES = 64 << 20  # that are to be saved
See = Callable[[str, Tensor], None]
Run = Callable[[dict[str, Tensor], See], dict[str, Tensor]]


def tell_diff(top: Tensor, take: Callable[[Tensor], object]) -> None:
    """Hand over a blob's gradient, if it has one, when it is computed. Of an in-place blob the last
    one that comes is the gradient with respect to its original value."""
    if not top.requires_grad:
        return

    def hand_over(diff: Tensor | None) -> None:
        if diff is not None:  # None: one of several tops of a layer, of which nothing comes back
            take(diff.detach().float())

    top.register_hook(hand_over)  # type: ignore[no-untyped-call]


def is_worth_it(saved: int, kept: int) -> bool:
    """Whether to promise blobs of so many bytes, for a copy of the parameters in each pass."""
    return saved >= max(LEAST_BYTES, 2 * kept)


class Promises:
    """Which blobs a training pass fills, and the others once somebody looks at them.

    Args:
        net: the net.
        results: blobs that are always filled.
        run: a whole pass, forward and backward, from the tops of the layers without bottoms; it
            calls a function for each top and returns all blobs.
    """

    def __init__(self, net: Net, results: Collection[str], run: Run) -> None:
        self._net, self._run = net, run
        tops = {top for place in net.places if not place.node.bottoms for top in place.node.tops}
        self._inner = [name for name in net.blobs if name not in {*results, *tops}]
        memories = [net.blobs[name].data_memory for name in self._inner]
        memories += [net.blobs[name].diff_memory for name in self._inner]
        self._reads = {id(memory): (memory.reads, -REMEMBERED) for memory in memories}
        self._memories = memories
        self._parameters = [net.parameter_of(blob) for blob in net.learnable]
        self._copies: list[Tensor] = []  # of the parameters in the last pass
        self._start: PassStart | None = None
        self._passes = 0
        acting = (place.layer.entry for place in net.places)
        self._is_possible = not any(e.runs_user_code or e.writes_files for e in acting)

    def plan(self) -> Plan | None:
        """What the coming pass leaves out; None: nothing, since that would hardly save memory."""
        self._passes += 1
        if not self._is_possible:
            return None
        unread = [memory for memory in self._memories if not self._is_wanted(memory)]
        saved = 4 * sum(prod(memory.shape) for memory in unread)
        kept = 4 * sum(parameter.numel() for parameter in self._parameters)
        if not is_worth_it(saved, kept):
            self._start, self._copies = None, []
            return None
        blobs, ids = self._net.blobs, {id(memory) for memory in unread}
        return Plan(
            frozenset(n for n in self._inner if id(blobs[n].data_memory) in ids),
            frozenset(n for n in self._inner if id(blobs[n].diff_memory) in ids),
            {},
            set(),
        )

    def _is_wanted(self, memory: Memory) -> bool:
        """Whether somebody holds its array, or has read it lately."""
        reads, last = self._reads[id(memory)]
        if memory.reads != reads:
            last = self._passes
            self._reads[id(memory)] = memory.reads, last
        return self._passes - last < REMEMBERED or memory.handed_out

    def promise(self, plan: Plan, start: PassStart) -> None:
        """Promise what a pass has left out. What it began with is kept, and copied where it may
        change from now on."""
        self._remember(start)
        for name in plan.data:
            self._net.blobs[name].data_memory.promise(plan.shapes[name], self._keep)
        for name in plan.diffs & plan.with_gradient:
            self._net.blobs[name].diff_memory.promise(plan.shapes[name], self._keep)

    def _remember(self, start: PassStart) -> None:
        net = self._net
        inputs = {
            name: tensor.clone() if name in net.user_filled else tensor
            for name, tensor in start.inputs.items()
        }
        self._start = PassStart(inputs, start.random, start.statistics, start.handed_on)
        if [c.shape for c in self._copies] != [p.shape for p in self._parameters]:
            self._copies = [torch.empty_like(p) for p in self._parameters]
        if self._copies:  # PyTorch takes no empty list
            with torch.no_grad():
                torch._foreach_copy_(self._copies, [p.detach() for p in self._parameters])

    def _keep(self) -> None:
        """Run the pass again, and put what was promised in its place."""
        start, blobs = self._start, self._net.blobs
        assert start is not None
        self._start = None

        def see(name: str, top: Tensor) -> None:
            if blobs[name].diff_memory.is_promised:
                tell_diff(top, lambda diff: found.update({name: diff}))

        found: dict[str, Tensor] = {}  # gradients; of an in-place blob the last one counts
        with back_at(self._net, start), self._parameters_then(), torch.enable_grad():
            made = self._run({**start.inputs, **self._parameters_as_tops()}, see)
        for name in self._inner:
            if blobs[name].data_memory.is_promised:
                blobs[name].data_memory.put(made[name].detach().float())
            if blobs[name].diff_memory.is_promised:
                diff = found.get(name)  # None: no gradient has come there
                blobs[name].diff_memory.put(torch.zeros_like(made[name]) if diff is None else diff)
        self._copies = []

    def _parameters_as_tops(self) -> dict[str, Tensor]:
        """Tops that are parameters: a solver has changed what the pass began with."""
        return {
            top: tensor
            for place in self._net.places
            if not place.node.bottoms and place.layer.parameter_names
            for top, tensor in zip(place.node.tops, self._net.run_layer(place, ()), strict=True)
        }

    @contextmanager
    def _parameters_then(self) -> Iterator[None]:
        """Within, the parameters have the values of the last pass, and gradients of their own."""
        now = [(p.data, p.grad) for p in self._parameters]
        for p, copy in zip(self._parameters, self._copies, strict=True):
            p.grad, p.data = None, copy
        try:
            yield
        finally:
            for p, (data, grad) in zip(self._parameters, now, strict=True):
                p.grad = None
                p.data, p.grad = data, grad


@dataclass(frozen=True)
class Plan:
    """What a pass leaves out.

    Attributes:
        data, diffs: names of the blobs.
        shapes: of all blobs of the pass.
        with_gradient: the blobs that have one.
    """

    data: frozenset[str]
    diffs: frozenset[str]
    shapes: dict[str, Shape]
    with_gradient: set[str]

    @property
    def unseen(self) -> frozenset[str]:
        """Blobs of which neither data nor diff is looked at."""
        return self.data & self.diffs

    def note(self, name: str, top: Tensor) -> None:
        """Note a top that a layer has made."""
        self.shapes[name] = tuple(top.shape)
        if top.requires_grad:
            self.with_gradient.add(name)


NOTHING_LEFT_OUT = Plan(frozenset(), frozenset(), {}, set())
