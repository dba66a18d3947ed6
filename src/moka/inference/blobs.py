"""The engine behind `caffe.Net`: every blob in view as layer by layer, but computed by programs.

A whole pass of a net for testing runs as a program for its outputs and for the blobs that somebody
reads. The other blobs are promised: whoever looks at one has all of them computed by the layers,
from the inputs and parameters of that pass, and has it among the program's outputs from the next
pass on.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from moka import huge_pages
from moka.engine.layerwise import NOTHING_GIVEN, Layerwise
from moka.inference.cut import varying_layers
from moka.inference.engines import LAYERWISE, chosen
from moka.inference.fast import Fast
from moka.inference.flow import acts, flow_of
from moka.inference.program import run_layers
from moka.memory import Memory, ParameterMemory, overwrite
from moka.net import Net
from moka.types import Shape

REMEMBERED = 3  # passes for which a blob that was read stays among the outputs
PAUSE = 8  # passes that go layer by layer after one was disturbed
SMALL = 2**14  # numbers, half of what PyTorch gives to a thread
NO_LOSS = torch.tensor(0.0)
MOST_KEPT = 2**24  # numbers in blobs that nobody has asked for yet, after a pass layer by layer


class FastBlobs(Layerwise):
    """Runs a net over its blobs, all of which are in view; whole passes as programs.

    A pass goes layer by layer if it is a part of the net, has callbacks or logs `debug_info`, if a
    layer that acts takes part in backward passes, for which it cannot run again, and while somebody
    holds an array of a parameter, for nobody can tell when it is written to. So do
    the next passes after a disturbance: a backward pass, a pass over a part of the net, or a
    parameter that somebody asks for after a pass.

    Args:
        net: nobody has got hold of its parameters yet.
    """

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self._held: set[ParameterMemory] = set()
        for place in net.places:
            for blob in net.layer_blobs(place.index):
                memory = blob.data_memory
                if isinstance(memory, ParameterMemory):
                    memory.listeners.append(partial(_tell, weakref.ref(self), memory))
        self._fast = Fast(net)
        self._must_record = any(acts(place) and place.marks.layer for place in net.places)
        self._pause = 0
        self._is_open = False  # a whole pass has run of which there are no records
        self._given: dict[str, Tensor] = {}  # what it began with, and what layers that act made
        self._copies: dict[str, Tensor] = {}  # of what users may write to
        self._sources = [
            place.index
            for place, step in zip(net.places, self._steps, strict=True)
            if not place.node.bottoms and step.runs
        ]
        tops = {top for place in net.places if not place.node.bottoms for top in place.node.tops}
        self._losses = net.loss_tops
        losses = [name for name, _ in self._losses]
        flow = flow_of(net)
        self._varying = varying_layers(net, flow)  # nobody knows these shapes before
        made = [top for i in self._varying for top in net.places[i].node.tops]
        self._results = frozenset({*net.graph.outputs, *losses, *made, *self._fast.acted} - tops)
        self._shapes: dict[tuple[Shape, ...], dict[str, Shape]] = {}  # of blobs, by the inputs'
        self._memories = {name: blob.data_memory for name, blob in net.blobs.items()}
        self._inputs = {name: self._memories[name] for name in flow.given}
        self._inner = {
            name: memory
            for name, memory in self._memories.items()
            if name not in tops | self._results
        }
        self._shown: dict[str, Memory] = {}  # those of them that the last pass gave
        self._made: Collection[str] = ()  # all blobs that it gave
        # The shapes of the last pass, while no promise of it has been kept.
        self._others_promised: Mapping[str, Shape] | None = None
        self._reads = dict.fromkeys(self._inner, 0)
        self._last_read = dict.fromkeys(self._inner, -REMEMBERED)
        self._passes = 0

    def forward(
        self,
        start: int = 0,
        end: int | None = None,
        *,
        given: Mapping[str, Tensor] = NOTHING_GIVEN,
    ) -> Tensor:
        is_whole = start == 0 and end in (None, len(self.net.places) - 1) and not given
        if not is_whole:
            self._disturb()
            return super().forward(start, end, given=given)
        if not self._may_be_quiet():
            self._pause = max(0, self._pause - 1)
            self._is_open, self._others_promised = False, None
            return super().forward()
        return self._quiet_pass()

    def backward(self, start: int | None = None, end: int = 0) -> None:
        self._disturb()
        super().backward(start, end)

    @property
    def promised(self) -> set[str]:
        """The blobs that are computed only if somebody looks at them."""
        return {name for name, memory in self._inner.items() if memory.is_promised}

    def end(self, blobs_are_held: bool) -> None:
        """Keep the promises that still matter, and forget the others, for the engine's time is up:
        promises refer to it, and it to the net."""
        if blobs_are_held and self.promised:
            self._keep_promises()
        for name in self.promised:
            self._inner[name].reset()

    def settle(self) -> None:
        self._disturb()

    def _may_be_quiet(self) -> bool:
        """Whether nobody needs more of a pass than blobs."""
        if self._held:
            self._held = {memory for memory in self._held if memory.handed_out}
        asked = self.debug_info or self.callbacks or self._must_record
        watched = self._pause or self._held or asked
        return not watched and self._fast.is_possible and chosen() != LAYERWISE

    def _quiet_pass(self) -> Tensor:
        """A whole pass that keeps what it began with, and no records."""
        self._passes += 1
        if self._sources:
            self._run(self._sources)
        wanted = self._wanted()
        given = {name: memory.tensor() for name, memory in self._inputs.items()}
        shapes = self._shapes_for(given)  # says which layer cannot take them
        program = self._fast.program(given, wanted)
        made = None if program is None else self._fast.run_by(program, given)
        if made is None or program is None:
            return self._by_layers(given, shapes, wanted)
        return self._take(made, given, shapes, are_new=program.gives_new_memory)

    def _by_layers(
        self, given: Mapping[str, Tensor], shapes: Mapping[str, Shape], wanted: frozenset[str]
    ) -> Tensor:
        """A pass by the layers. If the blobs are large, those that nobody has read yet are freed
        and promised: they are more than all else that a net for testing keeps."""
        sizes = {name: prod(shape) for name, shape in shapes.items()}
        others = self._inner.keys() - wanted
        names = wanted | others if sum(map(sizes.__getitem__, others)) <= MOST_KEPT else wanted
        final = self._fast.flow.final
        values = run_layers(self.net, self._fast.flow, given, [final[name] for name in names])
        loss = self._take({name: values[final[name]] for name in names}, given, shapes)
        acted = {name: values[final[name]] for name in self._fast.acted}
        del values
        self._fast.learn({**given, **acted}, wanted)
        return loss

    def _take(
        self,
        made: Mapping[str, Tensor],
        given: Mapping[str, Tensor],
        shapes: Mapping[str, Shape],
        *,
        are_new: bool = False,
    ) -> Tensor:
        """Let the blobs show a pass; returns its loss.

        Args:
            shapes: of the blobs that are known before a pass.
            are_new: whether nobody else refers to what was made.
        """
        self.forget()
        self._keep(given)
        if self._fast.acted:
            self._given.update((name, made[name]) for name in self._fast.acted)
        self._show(made, given, shapes, are_new)
        if not self._losses:
            return NO_LOSS
        losses = [w * float(made[name].sum()) for name, w in self._losses if name in made]
        return torch.tensor(float(sum(losses)))

    def _wanted(self) -> frozenset[str]:
        """The results, and what has been read lately or is in somebody's hands."""
        # While all others are promised, nobody has read them. Looking at each would take long, for
        # a pass leaves nothing in the processor's cache.
        looked_at = self._inner if self._others_promised is None else self._shown
        if not looked_at:
            return self._results
        wanted = set(self._results)
        for name, memory in looked_at.items():
            if memory.reads != self._reads[name]:
                self._reads[name], self._last_read[name] = memory.reads, self._passes
            if self._passes - self._last_read[name] < REMEMBERED or memory.handed_out:
                wanted.add(name)
        return frozenset(wanted)

    def _keep(self, given: Mapping[str, Tensor]) -> None:
        """Remember what the pass began with; what users may write to is copied."""
        for name, tensor in given.items():
            if self._memories[name].is_own:
                copy = self._copies.get(name)
                if copy is None or copy.shape != tensor.shape:
                    copy = self._copies[name] = huge_pages.empty(tuple(tensor.shape))
                _copy_on_one_thread(tensor, copy)
                tensor = copy
            self._given[name] = tensor
        self._is_open = True

    def _shapes_for(self, given: Mapping[str, Tensor]) -> dict[str, Shape]:
        """The shapes of all blobs that are known before a pass."""
        key = tuple([tensor.shape for tensor in given.values()])
        if key not in self._shapes:
            shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
            for place in self.net.places:
                node = place.node
                if node.bottoms and place.index not in self._varying:
                    tops = self.net.top_shapes(place, [shapes[name] for name in node.bottoms])
                    shapes.update(zip(node.tops, tops, strict=True))
            self._shapes[key] = shapes
        return self._shapes[key]

    def _show(
        self,
        made: Mapping[str, Tensor],
        given: Mapping[str, Tensor],
        shapes: Mapping[str, Shape],
        are_new: bool,
    ) -> None:
        """Put what a pass has given into its blobs and promise the others."""
        if not are_new:
            inputs = {tensor.untyped_storage().data_ptr() for tensor in given.values()}
            made = {
                name: tensor.clone() if tensor.untyped_storage().data_ptr() in inputs else tensor
                for name, tensor in made.items()
            }
        for name, tensor in made.items():
            self._memories[name].put(tensor, is_new=are_new)
        if self._others_promised is not shapes or made.keys() != self._made:
            for name, memory in self._inner.items():
                if name not in made:
                    memory.promise(shapes[name], self._keep_promises)
            self._shown = {name: self._inner[name] for name in made if name in self._inner}
            self._made, self._others_promised = frozenset(made), shapes

    def _keep_promises(self) -> None:
        """Compute the blobs that no program has given, by the layers."""
        self._others_promised = None
        final = self._fast.flow.final
        values = run_layers(self.net, self._fast.flow, self._given, final.values())
        self._put_promised({name: values[v] for name, v in final.items()})

    def _put_promised(self, blobs: Mapping[str, Tensor]) -> None:
        for name, memory in self._inner.items():
            if memory.is_promised:
                memory.put(blobs[name])

    def _disturb(self) -> None:
        """Have in place all that a layer by layer pass would have left."""
        self._others_promised = None
        if self._is_open:
            self._is_open = False
            blobs = self.record_pass(self._given)
            self._put_promised({name: blobs[name] for name in self._inner})
            self._copies.clear()  # which the records keep
            self._pause = PAUSE
        elif self._pause:
            self._pause = PAUSE

    def _before_change(self, memory: ParameterMemory) -> None:
        self._held.add(memory)
        self._disturb()


def _copy_on_one_thread(source: Tensor, target: Tensor) -> None:
    """After a copy on several threads OpenMP's would wait actively for PyTorch's next work, in the
    way of the program's threads. PyTorch copies small tensors on one, and they take NumPy longer.
    """
    if source.numel() <= SMALL:
        overwrite(target, source)
    else:
        np.copyto(target.numpy(), source.numpy())


def _tell(engine: weakref.ref[FastBlobs], memory: ParameterMemory) -> None:
    found = engine()
    if found is not None:
        found._before_change(memory)
