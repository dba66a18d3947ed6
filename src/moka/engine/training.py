"""The training step: the whole net forward and backward as one differentiable function.

Images travel channels-last, which the convolutions and above all the max pooling of a CPU prefer;
their shape stays N, C, H, W, so nobody sees a difference.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from moka.net import Net


class TrainingStep:
    """Runs a net forward and backward; parameters' gradients add up in their `grad`.

    Args:
        net: built for training.
        keep_blobs: leave every blob's data in `net.blobs`, not only the outputs'.
    """

    def __init__(self, net: Net, *, keep_blobs: bool = False) -> None:
        self.net = net
        self.keep_blobs = keep_blobs
        self._keep = tuple({*net.graph.outputs, *(name for name, _ in net.loss_tops)})

    def forward(self) -> Tensor:
        """One pass without gradients; returns the loss, a scalar."""
        with torch.no_grad():
            return self._loss(self._run())

    def forward_backward(self) -> Tensor:
        """One pass and its gradients; returns the loss, a scalar without a graph."""
        loss = self._loss(self._run())
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _run(self) -> dict[str, Tensor]:
        net = self.net
        inputs = {name: net.blobs[name].data_memory.tensor() for name in net.graph.inputs}
        blobs = net.propagate(inputs, None if self.keep_blobs else self._keep)
        for name, tensor in blobs.items():
            net.blobs[name].data_memory.put(tensor.detach())
        return blobs

    def _loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), device=self.net.device)
        for name, weight in self.net.loss_tops:
            total = total + weight * blobs[name].sum()
        return total
