"""One layer at a time: every blob and every diff visible and writable, from any layer to any other.

This is what pycaffe promises, what `caffe time` measures, and what finding a fault needs. Each
layer's own piece of autograd graph is kept from its forward to its backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from moka.engine.debug_info import log_backward, log_forward
from moka.graph import BackwardMarks
from moka.net import Net

Callback = Callable[[int], object]


class _Record(NamedTuple):
    """What a layer saw and made: detached bottoms, and tops that lead back to them; and in which
    pass, since another engine's pass makes it worthless."""

    bottoms: list[Tensor]
    tops: list[Tensor]
    passes: int


class Layerwise:
    """Runs a net over its blobs.

    Args:
        net: the net; its `blobs` and parameters are read and written.
        every_layer: compute the gradients of all parameters, needed or not, as `caffe time` does.
        given: layers without bottoms that make nothing: their tops lie in the blobs already.

    Attributes:
        before_forward, after_forward, before_backward, after_backward: called with the index of
            the layer.
    """

    def __init__(self, net: Net, *, every_layer: bool = False, given: Collection[int] = ()) -> None:
        self.net = net
        self.given = given
        self.marks = net.marks
        if every_layer:
            self.marks = tuple(
                BackwardMarks(True, mark.bottoms, tuple(w.requires_grad for w in layer.weights))
                for mark, layer in zip(net.marks, net.layers, strict=True)
            )
        self.before_forward: list[Callback] = []
        self.after_forward: list[Callback] = []
        self.before_backward: list[Callback] = []
        self.after_backward: list[Callback] = []
        self._records: dict[int, _Record] = {}

    def forward(self, start: int = 0, end: int | None = None) -> float:
        """Run layers `start` to `end` (both included, None: the last); returns their loss."""
        self._settle()
        loss = 0.0
        for i in range(start, len(self.net.layers) if end is None else end + 1):
            _call(self.before_forward, i)
            self._forward_layer(i)
            loss += self._loss_of(i)
            if self.net.debug_info:
                log_forward(self.net, i)
            _call(self.after_forward, i)
        return loss

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward pass from layer `start` (None: the last) down to `end`.

        Begins with the diffs the tops have; parameters' diffs add up, bottoms' are replaced.
        """
        self._settle()
        for i in range(len(self.net.layers) - 1 if start is None else start, end - 1, -1):
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

    def _settle(self) -> None:
        """Before a pass: follow changed input shapes, take over arrays written by the user."""
        net = self.net
        net.follow_input_shapes()
        net.take_written_parameters()

    def _forward_layer(self, i: int) -> None:
        net, node = self.net, self.net.graph.nodes[i]
        held = net.held.intersection(() if node.bottoms else node.tops)
        if i in self.given or (held and len(held) == len(node.tops)):
            return
        if self.marks[i].layer and node.bottoms:
            self._records[i] = record = self._record(i)
            tops = record.tops
        else:
            with torch.no_grad():
                bottoms = [net.blobs[b].data_memory.tensor() for b in node.bottoms]
                tops = self._apart(node.bottoms, net.run_layer(i, bottoms))
        for name, top in zip(node.tops, tops, strict=True):
            if name not in held:
                net.blobs[name].data_memory.put(top.detach())

    def _apart(self, bottoms: Sequence[str], tops: Sequence[Tensor]) -> list[Tensor]:
        """The tops, in memory of their own where they lie in that of an array a user may write."""
        memories = [self.net.blobs[name].data_memory for name in bottoms]
        users = {_storage(m.tensor()) for m in memories if m.handed_out}
        return [top.clone() if _storage(top) in users else top for top in tops]

    def _record(self, i: int, *, again: bool = False) -> _Record:
        net, node = self.net, self.net.graph.nodes[i]
        bottoms = []
        for name, wanted in zip(node.bottoms, self.marks[i].bottoms, strict=True):
            memory = net.blobs[name].data_memory
            # An array handed out may be written to before the backward pass.
            tensor = memory.tensor().clone() if memory.handed_out else memory.tensor().detach()
            bottoms.append(tensor.requires_grad_(wanted))
        with torch.enable_grad():
            return _Record(bottoms, list(net.run_layer(i, bottoms, again=again)), net.passes)

    def _loss_of(self, i: int) -> float:
        node = self.net.graph.nodes[i]
        return sum(
            weight * float(self.net.blobs[top].data_memory.tensor().sum())
            for top, weight in zip(node.tops, node.loss_weights, strict=True)
            if weight
        )

    def _backward_layer(self, i: int) -> None:
        net, node, marks = self.net, self.net.graph.nodes[i], self.marks[i]
        if not any(marks.bottoms) and not any(marks.params):
            return
        record = self._records.get(i)
        if record is None or record.passes != net.passes:
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


def _storage(tensor: Tensor) -> int:
    """What tells apart the memory of two tensors; no two blobs' diffs may have the same."""
    return tensor.untyped_storage().data_ptr()


def _call(callbacks: list[Callback], index: int) -> None:
    for callback in callbacks:
        callback(index)
