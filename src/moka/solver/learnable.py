"""The parameters that a solver updates, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moka.net import Net
from moka.parallel.shard import own_part


@dataclass(frozen=True)
class Learnable:
    """A parameter with its factors of the learning rate and of weight decay."""

    parameter: nn.Parameter
    lr_mult: float
    decay_mult: float

    @property
    def values(self) -> Tensor:
        """Its numbers; of a divided one (`moka.parallel.shard`) this process's part."""
        return own_part(self.parameter.detach())

    @property
    def grad(self) -> Tensor:
        """The gradient of `values`."""
        assert self.parameter.grad is not None
        return own_part(self.parameter.grad)


def learnables(net: Net) -> list[Learnable]:
    """Every parameter of a net once, as a rule updates it."""
    return [Learnable(net.parameter_of(b), b.lr_mult, b.decay_mult) for b in net.learnable]


def make_grads(params: Sequence[Learnable]) -> None:
    """Give every parameter a gradient, zeros if it has none."""
    for p in params:
        if p.parameter.grad is None:
            p.parameter.grad = torch.zeros_like(p.parameter)


def clear_grads(params: Sequence[Learnable]) -> None:
    """Set all gradients to zero."""
    make_grads(params)
    if params:  # PyTorch refuses an empty list
        torch._foreach_zero_([p.grad for p in params])
