"""The parameters that a solver updates, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moka.memory import ParameterMemory
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
        found = self.parameter.detach()
        return found if type(found) is Tensor else own_part(found)

    @property
    def grad(self) -> Tensor:
        """The gradient of `values`."""
        found = self.parameter.grad
        assert found is not None
        return found if type(found) is Tensor else own_part(found)


def learnables(net: Net) -> list[Learnable]:
    """Every parameter of a net once, as a rule updates it."""
    return [Learnable(net.parameter_of(b), b.lr_mult, b.decay_mult) for b in net.learnable]


def make_grads(params: Sequence[Learnable]) -> None:
    """Give every parameter a gradient of its own, zeros if it has none.

    The gradient of a sum is that of each term, and autograd hands both the same memory. What is
    added to one later would be added to the other too.
    """
    taken: set[int] = set()
    for p in params:
        grad = p.parameter.grad
        if grad is None:
            p.parameter.grad = torch.zeros_like(p.parameter)
        elif type(grad) is Tensor:
            address = grad.untyped_storage().data_ptr()
            if address in taken and grad.numel():
                p.parameter.grad = grad.clone()
            taken.add(address)


def lay_out_grads(params: Sequence[Learnable]) -> None:
    """Bring gradients that were set by hand into their parameters' order of memory: kernels of
    updates take numbers as they lie."""
    for p in params:
        given = p.parameter.grad
        if given is not None and _order(given) != _order(p.parameter):
            p.parameter.grad = torch.zeros_like(p.parameter).copy_(given)


def _order(tensor: Tensor) -> list[int]:
    return [stride for stride, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]


def clear_grads(params: Sequence[Learnable]) -> None:
    """Set all gradients to zero."""
    make_grads(params)
    if params:  # PyTorch refuses an empty list
        torch._foreach_zero_([p.grad for p in params])


def forget_grads(params: Sequence[Learnable], net: Net, *, stay: bool = False) -> None:
    """Begin an iteration: leave no gradients, or zeros.

    Where there is none, the backward pass hands over its own instead of adding it to zeros: 50 ms
    for 61 M numbers on one thread. Gradients whose arrays somebody holds, or a GPU's kernels know,
    stay where they are.

    Args:
        stay: all stay.
    """
    memories = [blob.diff_memory for blobs in net.made_layer_blobs.values() for blob in blobs]
    held = {
        memory.parameter
        for memory in memories
        if isinstance(memory, ParameterMemory) and memory.handed_out
    }
    if stay or net.device.type != "cpu":
        held.update(p.parameter for p in params)
    for p in params:
        if p.parameter not in held:
            p.parameter.grad = None
    clear_grads([p for p in params if p.parameter in held])
