"""The mean of gradients over all processes that train one model, so that its copies stay equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moka.net import Net
from moka.parallel.team import Team
from moka.schema.caffe_pb2 import SolverParameter


class GradientMean:
    """Averages a net's gradients over a team before each update.

    Args:
        net: this process's copy of the model.
        team: the processes.
        config: the solver's message.
    """

    def __init__(self, net: Net, team: Team, config: SolverParameter) -> None:
        self.net = net
        self.team = team
        self.config = config
        self._averaged: set[int] = set()  # ids of parameters that `after_layer` has dealt with

    def broadcast(self) -> None:
        """Give every process the parameters of the first."""
        with self.net.parameters_in_use():
            self.team.copy_from_first(self._parameters())

    def on_start(self) -> None:
        """Begin an iteration."""
        self._averaged.clear()

    def on_gradients_ready(self) -> None:
        """Average the gradients that `after_layer` has not averaged yet."""
        self._average([p for p in self._parameters() if id(p) not in self._averaged])
        self._averaged.clear()

    def after_layer(self, index: int) -> None:
        """Average the gradients of the parameters that layer `index` owns, once its backward pass
        has run. With iter_size > 1 they are averaged once, after the last pass."""
        if self.config.iter_size > 1:
            return
        net = self.net
        owned = [net.parameter_of(blob) for blob in net.learnable if blob.owner[0] == index]
        self._average(owned)
        self._averaged.update(map(id, owned))

    def _parameters(self) -> list[nn.Parameter]:
        return [self.net.parameter_of(blob) for blob in self.net.learnable]

    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        with self.net.parameters_in_use():
            self.team.average([_grad(parameter) for parameter in parameters])


def _grad(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
