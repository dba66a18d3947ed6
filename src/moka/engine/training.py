"""The training step: the whole net forward and backward as one differentiable function.

Images travel channels-last, which the convolutions and above all the max pooling of a CPU prefer;
their shape stays N, C, H, W, so nobody sees a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from moka.engine.channels_last import channels_last
from moka.engine.debug_info import log_all_parameters
from moka.engine.layerwise import Layerwise
from moka.engine.pass_start import PassStart, pass_start
from moka.engine.precision import feed_others_float32, in_bfloat16
from moka.heap import keep_freed_memory
from moka.net import Net


class TrainingStep:
    """Runs a net forward and backward; parameters' gradients add up in their `grad`.

    Args:
        net: built for training.
        keep_blobs: leave every blob's data in `net.blobs`, not only the outputs', and after a
            backward pass its diff too. Both are the tensors of the pass itself, which then live
            until the next one.
        bfloat16: in mixed precision (`moka.engine.precision`).
        replayable: keep in `start` what each pass began with.
    """

    def __init__(
        self,
        net: Net,
        *,
        keep_blobs: bool = False,
        bfloat16: bool = False,
        replayable: bool = False,
    ) -> None:
        self.net = net
        self.keep_blobs = keep_blobs
        self.bfloat16 = bfloat16
        if bfloat16:
            feed_others_float32(net)
        self.replayable = replayable
        self.start: PassStart | None = None
        self._sources = [
            i
            for i, node in enumerate(net.graph.nodes)
            if not node.bottoms and not net.held.issuperset(node.tops)
        ]
        later = {top for node in net.graph.nodes if node.bottoms for top in node.tops}
        self._overwritten = net.held & later  # by in-place layers, before the backward pass
        if net.device.type == "cpu":
            keep_freed_memory()
            if not keep_blobs:  # whose readers may expect row-major parameters
                _lay_out_kernels(net)
        self._driven = _driven_inputs(net)
        self._losses = net.loss_tops
        self._keep = tuple({*net.graph.outputs, *(name for name, _ in self._losses)})

    def forward(self) -> Tensor:
        """One pass without gradients; returns the loss, a scalar."""
        if self._goes_layer_by_layer:
            return torch.tensor(self._layer_by_layer().forward())
        with torch.no_grad():
            return self._loss(self._run())

    def forward_backward(self) -> Tensor:
        """One pass and its gradients; returns the loss, a scalar without a graph."""
        if self._goes_layer_by_layer:
            engine = self._layer_by_layer()
            total = engine.forward()
            engine.backward()
            if self.net.debug_info:
                log_all_parameters(self.net)
            return torch.tensor(total)
        loss = self._loss(self._run(self._keep_diff if self.keep_blobs else None))
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _run(self, see: Callable[[str, Tensor], None] | None = None) -> dict[str, Tensor]:
        net = self.net
        inputs = self._inputs()
        if see:
            for name in self._driven:
                if not inputs[name].requires_grad:
                    inputs[name] = inputs[name].detach().requires_grad_()
                see(name, inputs[name])
        with in_bfloat16(net) if self.bfloat16 else nullcontext():
            blobs = net.propagate(inputs, None if self.keep_blobs else self._keep, see)
        for name, tensor in blobs.items():
            net.blobs[name].data_memory.put(tensor.detach().float())
        return blobs

    def _keep_diff(self, name: str, top: Tensor) -> None:
        """Have the diff of a blob in view once it is computed; of an in-place one the last, which
        is that of its first value."""
        if top.requires_grad:
            memory = self.net.blobs[name].diff_memory
            top.register_hook(lambda diff: memory.put(diff.detach().float()))  # type: ignore[no-untyped-call]

    @property
    def _goes_layer_by_layer(self) -> bool:
        return self.net.debug_info or bool(self.net.callbacks)

    def _layer_by_layer(self) -> Layerwise:
        """The engine that logs as it runs, its sources' tops in their blobs."""
        for name, tensor in self._inputs().items():
            self.net.blobs[name].data_memory.put(tensor.detach())
        return Layerwise(self.net, given=self._sources, callbacks=self.net.callbacks)

    def _inputs(self) -> dict[str, Tensor]:
        """Begin a pass: the tops of all layers without bottoms."""
        net = self.net
        net.passes += 1
        self.start = None  # lets go of the last batch before the next one comes
        net.follow_input_shapes()
        inputs: dict[str, Tensor] = {}
        for i in self._sources:
            inputs.update(zip(net.graph.nodes[i].tops, net.run_layer(i, ()), strict=True))
        for name in net.held:
            tensor = net.blobs[name].data_memory.tensor()
            inputs[name] = tensor.clone() if name in self._overwritten else tensor
        laid_out = {name: channels_last(tensor) for name, tensor in inputs.items()}
        if self.replayable:
            self.start = pass_start(net, laid_out)
        return laid_out

    def _loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        terms = [
            blobs[name].float().sum() if weight == 1 else weight * blobs[name].float().sum()
            for name, weight in self._losses
        ]
        return sum(terms[1:], terms[0]) if terms else torch.zeros((), device=self.net.device)


def _driven_inputs(net: Net) -> frozenset[str]:
    """Tops of layers without bottoms whose gradient is asked for (`force_backward`)."""
    made: set[str] = set()
    found: set[str] = set()
    for node, marks in zip(net.graph.nodes, net.marks, strict=True):
        wanted = {name for name, asked in zip(node.bottoms, marks.bottoms, strict=True) if asked}
        found |= wanted & made
        made.difference_update(node.tops)  # an in-place layer's is another tensor
        if not node.bottoms and node.entry.source != "parameters":
            made.update(node.tops)
    return frozenset(found)


def _lay_out_kernels(net: Net) -> None:
    """Keep convolution kernels channels-last too, so that they are not copied in each pass."""
    for blob in net.learnable:
        parameter = net.parameter_of(blob)
        shapes = {net.layers[i].blob_shapes[k] for i, k in blob.users}
        if parameter.dim() == 4 and len(shapes) == 1:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
