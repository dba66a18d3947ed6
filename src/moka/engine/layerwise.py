"""One layer at a time: every blob and every diff visible and writable, from any layer to any other.

This is what pycaffe promises, what `caffe time` measures, and what finding a fault needs. Each
layer's own piece of autograd graph is kept from its forward to its backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from moka.engine.callbacks import Callback, Callbacks
from moka.engine.channels_last import channels_last
from moka.engine.debug_info import log_backward, log_forward
from moka.graph import BackwardMarks
from moka.memory import Memory
from moka.net import Net, Place
from moka.types import Shape

NOTHING_GIVEN: Mapping[str, Tensor] = MappingProxyType({})


class _Record(NamedTuple):
    """A layer's last forward pass: detached bottoms, and tops whose graph leads to them."""

    bottoms: list[Tensor]
    tops: list[Tensor]


class _Step(NamedTuple):
    """The blobs that a layer reads and writes in a forward pass, looked up once.

    Attributes:
        place: the layer.
        marks: what takes part in the backward pass.
        bottoms: memories it reads.
        tops: memories it writes; None for one that is the user's to fill.
        losses: memories of its tops that add to the loss, with their weights.
        runs: whether it has anything to do.
    """

    place: Place
    marks: BackwardMarks
    bottoms: list[Memory]
    tops: list[Memory | None]
    losses: list[tuple[Memory, float]]
    runs: bool


class Layerwise:
    """Runs a net over its blobs, all of which are in view.

    Args:
        net: the net; its `blobs` and parameters are read and written.
        every_layer: compute the gradients of all parameters, needed or not, as `caffe time` does.

    Attributes:
        callbacks: functions that are called for each layer.
        debug_info: whether each pass is logged layer by layer (`moka.engine.debug_info`); at
            first what the net's file asks for.
    """

    def __init__(self, net: Net, *, every_layer: bool = False) -> None:
        self.net = net
        self.callbacks = Callbacks()
        self.debug_info: bool = net.graph.param.debug_info
        self._steps = [_step(net, place, every_layer) for place in net.places]
        self._seen: list[list[Shape]] = [[] for _ in self._steps]  # shapes of bottoms
        self._records: dict[int, _Record] = {}

    @property
    def layerwise(self) -> Layerwise:
        return self

    @property
    def in_view(self) -> frozenset[str]:
        return frozenset(self.net.blobs)

    def prepare(self) -> None:
        self.net.prepare()

    def forward(
        self,
        start: int = 0,
        end: int | None = None,
        *,
        given: Mapping[str, Tensor] = NOTHING_GIVEN,
    ) -> Tensor:
        """Run some layers forward.

        Args:
            start, end: the first and the last layer to run; None: the net's last.
            given: tops of layers without bottoms, which do not run then.

        Returns:
            What these layers add to the loss, a scalar.
        """
        for name, tensor in given.items():
            self.net.blobs[name].data_memory.put(tensor.detach())
        self._split_what_users_wrote(start)
        return self._run(range(start, len(self._steps) if end is None else end + 1), given)

    def _split_what_users_wrote(self, end: int) -> None:
        """Bring the Splits before layer `end` up to date, for in BVLC Caffe their tops are the
        bottom's memory: who writes to a blob and runs the layers after it reads what was written.
        """
        for i, step in enumerate(self._steps[:end]):
            if step.place.node.entry.is_plumbing and step.bottoms[0].is_own:
                self._reshape_layer(i, step)
                self._forward_layer(i, step)

    def _run(self, indices: Iterable[int], given: Mapping[str, Tensor] = NOTHING_GIVEN) -> Tensor:
        """Run these layers forward; returns their loss."""
        loss = 0.0
        with torch.no_grad(), self.net.parameters_in_use():
            for i in indices:
                self._call(self.callbacks.before_forward, i)
                step = self._steps[i]
                if step.runs and not _are_given(step.place, given):
                    self._reshape_layer(i, step)
                    self._forward_layer(i, step)
                for memory, weight in step.losses:
                    loss += weight * float(memory.tensor().sum())
                if self.debug_info:
                    log_forward(self.net, step.place)
                self._call(self.callbacks.after_forward, i)
        return torch.tensor(loss)

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward pass from layer `start` (None: the last) down to `end`.

        Begins with the diffs the tops have; parameters' diffs add up, bottoms' are replaced.
        """
        with self.net.parameters_in_use():
            for i in range(len(self._steps) - 1 if start is None else start, end - 1, -1):
                self._call(self.callbacks.before_backward, i)
                step = self._steps[i]
                if step.marks.layer:
                    self._backward_layer(i, step)
                    if self.debug_info and step.place.marks.layer:
                        log_backward(self.net, step.place)
                self._call(self.callbacks.after_backward, i)

    def forward_backward(self) -> Tensor:
        loss = self.forward()
        self.backward()
        return loss

    def forget(self) -> None:
        """Free what the last passes kept, since the blobs are about to hold another pass's data.

        A backward pass then runs each layer again first.
        """
        self._records.clear()

    def settle(self) -> None:
        """Have the data of all blobs in place, since parameters are about to change."""

    def record_pass(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep what the backward pass of a whole pass needs, and leave the blobs as they are.

        Args:
            given: the tops of the layers without bottoms; other layers whose tops it has do not
                run.

        Returns:
            All blobs by name (in-place ones: their last value).
        """
        self._records.clear()
        blobs = dict(given)
        for i, step in enumerate(self._steps):
            node, marks = step.place.node, step.marks
            if all(top in given for top in node.tops):
                continue
            bottoms = [channels_last(blobs[name].detach()) for name in node.bottoms]
            with torch.set_grad_enabled(marks.layer):
                if marks.layer:
                    bottoms = [b.detach().requires_grad_(w)
                               for b, w in zip(bottoms, marks.bottoms, strict=True)]  # fmt: skip
                tops = list(self.net.run_layer(step.place, bottoms))
            if marks.layer:
                self._records[i] = _Record(bottoms, tops)
            blobs.update((n, top.detach()) for n, top in zip(node.tops, tops, strict=True))
        return blobs

    def clear_param_diffs(self) -> None:
        """Zero the diffs of all parameters."""
        for blob in self.net.learnable:
            grad = self.net.parameter_of(blob).grad
            if grad is not None:
                grad.zero_()

    def _reshape_layer(self, i: int, step: _Step) -> None:
        """Let a layer check its bottoms if their shapes have changed.

        Each layer does so when its turn comes, so layers that do not run need not fit: DeepDream
        feeds images of any size to the layers before the first InnerProduct.
        """
        shapes = [memory.shape for memory in step.bottoms]
        if shapes != self._seen[i]:
            if not step.place.layer.entry.runs_user_code:  # it reshapes when it runs
                self.net.top_shapes(step.place, shapes)
            self._seen[i] = shapes

    def _forward_layer(self, i: int, step: _Step) -> None:
        if step.marks.layer and step.bottoms:
            self._records[i] = record = self._record(step)
            tops: Sequence[Tensor] = record.tops
        else:
            tops = self.net.run_layer(step.place, [_images(memory) for memory in step.bottoms])
            tops = _apart([memory for memory in step.bottoms if memory.is_own], tops)
            if not step.bottoms:
                tops = [channels_last(top) for top in tops]
        for memory, top in zip(step.tops, tops, strict=True):
            if memory is not None:
                memory.put(top.detach())

    def _record(self, step: _Step, *, again: bool = False) -> _Record:
        bottoms = []
        for memory, wanted in zip(step.bottoms, step.marks.bottoms, strict=True):
            # A user's array may be written to before the backward pass.
            tensor = _images(memory).clone() if memory.is_own else memory.tensor().detach()
            bottoms.append(tensor.requires_grad_(wanted))
        with torch.enable_grad():
            return _Record(bottoms, list(self.net.run_layer(step.place, bottoms, again=again)))

    def _backward_layer(self, i: int, step: _Step) -> None:
        net, marks, node = self.net, step.marks, step.place.node
        if not any(marks.bottoms) and not any(marks.params):
            return
        record = self._records.get(i)
        if record is None:
            self._reshape_layer(i, step)
            record = self._records[i] = self._record(step, again=True)
        made = [(t, net.blobs[n].diff_memory) for t, n in zip(record.tops, node.tops, strict=True)
                if t.requires_grad]  # fmt: skip
        pairs = zip(step.place.layer.weights_unseen(), marks.params, strict=True)
        weights = [weight for weight, is_wanted in pairs if is_wanted]
        bottoms = [j for j, wanted in enumerate(marks.bottoms) if wanted]
        diffs = [net.blobs[node.bottoms[j]].diff_memory for j in bottoms]
        inputs = [record.bottoms[j] for j in bottoms]
        if not made or not (inputs or weights):
            for diff, bottom in zip(diffs, inputs, strict=True):
                diff.put(torch.zeros_like(bottom).detach())
            return
        grads = _gradients(made, [*inputs, *weights])
        _put_diffs(diffs, inputs, grads[: len(inputs)], [memory for _, memory in made])
        for weight, grad in zip(weights, grads[len(inputs) :], strict=True):
            if grad is not None:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
                weight.grad += grad

    def _call(self, callbacks: list[Callback], index: int) -> None:
        if callbacks:
            # What a user computes there is not the engine's.
            with torch.enable_grad(), self.net.parameters_in_users_hands():
                for callback in callbacks:
                    callback(index)


def _step(net: Net, place: Place, every_layer: bool) -> _Step:
    node, marks = place.node, place.marks
    if every_layer:
        wanted = tuple(weight.requires_grad for weight in place.layer.weights_unseen())
        marks = BackwardMarks(True, marks.bottoms, wanted)
    users = net.user_filled.intersection(() if node.bottoms else node.tops)
    memories = {name: net.blobs[name].data_memory for name in (*node.bottoms, *node.tops)}
    return _Step(
        place,
        marks,
        [memories[name] for name in node.bottoms],
        [None if name in users else memories[name] for name in node.tops],
        [(memories[name], w) for name, w in zip(node.tops, node.loss_weights, strict=True) if w],
        runs=not (users and len(users) == len(node.tops)),
    )


def _are_given(place: Place, given: Mapping[str, Tensor]) -> bool:
    node = place.node
    return not node.bottoms and bool(node.tops) and all(top in given for top in node.tops)


def _gradients(
    made: Sequence[tuple[Tensor, Memory]], wanted: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """The gradient of each wanted tensor, None if it has none.

    Args:
        made: tops, each with the memory of its diff.
        wanted: what they were made of.
    """
    for top, diff in made:
        if diff.shape != tuple(top.shape):
            diff.reshape(tuple(top.shape))
    return torch.autograd.grad(
        [top for top, _ in made],
        wanted,
        [diff.tensor().to(top.dtype) for top, diff in made],
        retain_graph=True,
        allow_unused=True,
    )


def _put_diffs(
    diffs: Sequence[Memory],
    bottoms: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    in_use: Sequence[Memory],
) -> None:
    """Store gradients as the diffs of bottoms, each in memory of its own, for they are written
    to.

    Args:
        in_use: the memories of diffs that exist already.
    """
    taken = {_storage(memory.tensor()) for memory in in_use}
    for diff, bottom, grad in zip(diffs, bottoms, grads, strict=True):
        if grad is None:
            grad = torch.zeros_like(bottom)
        elif _storage(grad) in taken or 0 in grad.stride():
            grad = grad.clone()
        taken.add(_storage(grad))
        diff.put(grad.detach())


def _images(memory: Memory) -> Tensor:
    """A blob's data; images in a user's array are row-major: convert them back."""
    return channels_last(memory.tensor()) if memory.is_own else memory.tensor()


def _apart(memories: Sequence[Memory], tops: Sequence[Tensor]) -> Sequence[Tensor]:
    """The tops; a top that lies in memory that the user may write to is copied."""
    if not memories:
        return tops
    users = {_storage(memory.tensor()) for memory in memories}
    return [top.clone() if _storage(top) in users else top for top in tops]


def _storage(tensor: Tensor) -> int:
    """An address that is equal for tensors in the same memory; no two blobs' diffs may share it."""
    return tensor.untyped_storage().data_ptr()
