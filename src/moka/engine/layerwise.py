"""One layer at a time: every blob and every diff visible and writable, from any layer to any other.

This is what pycaffe promises, what `caffe time` measures, and what finding a fault needs. Each
layer's own piece of autograd graph is kept from its forward to its backward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from moka.blob import Memory
from moka.engine.channels_last import channels_last
from moka.engine.debug_info import log_backward, log_forward
from moka.graph import BackwardMarks, Node
from moka.heap import keep_freed_memory
from moka.net import Callback, Callbacks, Net
from moka.types import Shape


class _Record(NamedTuple):
    """What a layer saw and made: detached bottoms, and tops that lead back to them; and in which
    pass, since another engine's pass makes it worthless."""

    bottoms: list[Tensor]
    tops: list[Tensor]
    passes: int


class _Step(NamedTuple):
    """What a layer reads and writes in a forward pass, looked up once.

    Attributes:
        bottoms: memories it reads.
        tops: memories it writes; None for one that is the user's to fill.
        losses: memories of its tops that add to the loss, with their weights.
        runs: whether it has anything to do.
    """

    bottoms: list[Memory]
    tops: list[Memory | None]
    losses: list[tuple[Memory, float]]
    runs: bool


class Layerwise:
    """Runs a net over its blobs.

    Args:
        net: the net; its `blobs` and parameters are read and written.
        every_layer: compute the gradients of all parameters, needed or not, as `caffe time` does.
        given: layers without bottoms that make nothing: their tops lie in the blobs already.
        callbacks: what is called for each layer; None: nothing yet.

    Attributes:
        before_forward, after_forward, before_backward, after_backward: called with the index of
            the layer.
    """

    def __init__(
        self,
        net: Net,
        *,
        every_layer: bool = False,
        given: Collection[int] = (),
        callbacks: Callbacks | None = None,
    ) -> None:
        self.net = net
        self.marks = net.marks
        if every_layer:
            self.marks = tuple(
                BackwardMarks(True, mark.bottoms, tuple(w.requires_grad for w in layer.weights))
                for mark, layer in zip(net.marks, net.layers, strict=True)
            )
        called = Callbacks() if callbacks is None else callbacks
        self.before_forward = called.before_forward
        self.after_forward = called.after_forward
        self.before_backward = called.before_backward
        self.after_backward = called.after_backward
        self._steps = [_step(net, i, node, given) for i, node in enumerate(net.graph.nodes)]
        self._seen: list[list[Shape]] = [[] for _ in self._steps]  # shapes of bottoms
        self._records: dict[int, _Record] = {}
        if net.device.type == "cpu":
            keep_freed_memory()

    def forward(self, start: int = 0, end: int | None = None) -> float:
        """Run layers `start` to `end` (both included, None: the last); returns their loss."""
        self.net.take_written_parameters()
        loss = 0.0
        with torch.no_grad():
            for i in range(start, len(self._steps) if end is None else end + 1):
                _call(self.before_forward, i)
                step = self._steps[i]
                if step.runs:
                    self._reshape_layer(i, step)
                    self._forward_layer(i, step)
                for memory, weight in step.losses:
                    loss += weight * float(memory.tensor().sum())
                if self.net.debug_info:
                    log_forward(self.net, i)
                _call(self.after_forward, i)
        return loss

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward pass from layer `start` (None: the last) down to `end`.

        Begins with the diffs the tops have; parameters' diffs add up, bottoms' are replaced.
        """
        self.net.take_written_parameters()
        for i in range(len(self._steps) - 1 if start is None else start, end - 1, -1):
            _call(self.before_backward, i)
            if self.marks[i].layer:
                self._backward_layer(i)
                if self.net.debug_info and self.net.marks[i].layer:
                    log_backward(self.net, i)
            _call(self.after_backward, i)

    def clear_param_diffs(self) -> None:
        """Zero the diffs of all parameters."""
        for blob in self.net.learnable:
            grad = self.net.parameter_of(blob).grad
            if grad is not None:
                grad.zero_()

    def _reshape_layer(self, i: int, step: _Step) -> None:
        """Let a layer check bottoms that changed their shapes. Each does when its turn comes, so
        those that do not run need not fit: DeepDream feeds images of any size to the layers before
        the first InnerProduct."""
        shapes = [memory.shape for memory in step.bottoms]
        if shapes != self._seen[i]:
            if not self.net.layers[i].entry.runs_user_code:  # it reshapes when it runs
                self.net.top_shapes(i, shapes)
            self._seen[i] = shapes

    def _forward_layer(self, i: int, step: _Step) -> None:
        if self.marks[i].layer and step.bottoms:
            self._records[i] = record = self._record(i)
            tops: Sequence[Tensor] = record.tops
        else:
            tops = self.net.run_layer(i, [_images(memory) for memory in step.bottoms])
            tops = _apart([memory for memory in step.bottoms if memory.handed_out], tops)
            if not step.bottoms:
                tops = [channels_last(top) for top in tops]
        for memory, top in zip(step.tops, tops, strict=True):
            if memory is not None:
                memory.put(top.detach())

    def _record(self, i: int, *, again: bool = False) -> _Record:
        net, node = self.net, self.net.graph.nodes[i]
        bottoms = []
        for name, wanted in zip(node.bottoms, self.marks[i].bottoms, strict=True):
            memory = net.blobs[name].data_memory
            # An array handed out may be written to before the backward pass.
            tensor = _images(memory).clone() if memory.handed_out else memory.tensor().detach()
            bottoms.append(tensor.requires_grad_(wanted))
        with torch.enable_grad():
            return _Record(bottoms, list(net.run_layer(i, bottoms, again=again)), net.passes)

    def _backward_layer(self, i: int) -> None:
        net, node, marks = self.net, self.net.graph.nodes[i], self.marks[i]
        if not any(marks.bottoms) and not any(marks.params):
            return
        record = self._records.get(i)
        if record is None or record.passes != net.passes:
            self._reshape_layer(i, self._steps[i])
            record = self._records[i] = self._record(i, again=True)
        made = [(t, net.blobs[n]) for t, n in zip(record.tops, node.tops, strict=True)
                if t.requires_grad]  # fmt: skip
        weights = [w for w, wanted in zip(net.layers[i].weights, marks.params, strict=True)
                   if wanted]  # fmt: skip
        bottoms = [j for j, wanted in enumerate(marks.bottoms) if wanted]
        wanted_tensors = [record.bottoms[j] for j in bottoms] + weights
        if not made or not wanted_tensors:
            for j in bottoms:
                zeros = torch.zeros_like(record.bottoms[j]).detach()
                net.blobs[node.bottoms[j]].diff_memory.put(zeros)
            return
        for top, blob in made:
            if blob.diff_memory.shape != tuple(top.shape):
                blob.diff_memory.reshape(tuple(top.shape))
        grads = torch.autograd.grad(
            [top for top, _ in made],
            wanted_tensors,
            [blob.diff_memory.tensor().to(top.dtype) for top, blob in made],
            retain_graph=True,
            allow_unused=True,
        )
        taken = {_storage(blob.diff_memory.tensor()) for _, blob in made}
        for j, grad in zip(bottoms, grads, strict=False):
            if grad is None:
                grad = torch.zeros_like(record.bottoms[j])
            elif _storage(grad) in taken or 0 in grad.stride():
                grad = grad.clone()  # blobs' diffs are written to, so each has its own memory
            taken.add(_storage(grad))
            net.blobs[node.bottoms[j]].diff_memory.put(grad.detach())
        for weight, grad in zip(weights, grads[len(bottoms) :], strict=True):
            if grad is not None:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
                weight.grad += grad
        net.renew_written_parameters()


def _step(net: Net, index: int, node: Node, given: Collection[int]) -> _Step:
    held = net.held.intersection(() if node.bottoms else node.tops)
    memories = {name: net.blobs[name].data_memory for name in (*node.bottoms, *node.tops)}
    return _Step(
        [memories[name] for name in node.bottoms],
        [None if name in held else memories[name] for name in node.tops],
        [(memories[name], w) for name, w in zip(node.tops, node.loss_weights, strict=True) if w],
        runs=index not in given and not (held and len(held) == len(node.tops)),
    )


def _images(memory: Memory) -> Tensor:
    """A blob's data; what a user holds is row-major, images then go back to channels-last."""
    return channels_last(memory.tensor()) if memory.handed_out else memory.tensor()


def _apart(memories: Sequence[Memory], tops: Sequence[Tensor]) -> Sequence[Tensor]:
    """The tops, in memory of their own where they lie in that of an array a user may write."""
    if not memories:
        return tops
    users = {_storage(memory.tensor()) for memory in memories}
    return [top.clone() if _storage(top) in users else top for top in tops]


def _storage(tensor: Tensor) -> int:
    """What tells apart the memory of two tensors; no two blobs' diffs may have the same."""
    return tensor.untyped_storage().data_ptr()


def _call(callbacks: list[Callback], index: int) -> None:
    if callbacks:
        with torch.enable_grad():  # what a user computes there is not the engine's
            for callback in callbacks:
                callback(index)
