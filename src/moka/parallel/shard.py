"""Large models: each of several processes keeps a part of the parameters (`shard: true`).

It is PyTorch's FSDP2 (`torch.distributed.fsdp.fully_shard`), layer by layer: a layer's parameters
are put together while it runs, forward and backward, and its gradients are averaged and divided
again (Rajbhandari et al., 2020; Zhao et al., 2023). The solver updates its own parts, so its
history is divided, too. N processes need one N-th of the memory for values, gradients and history,
beside the layer that is running.

Whole in every process stay the parameters that several layers share, those of layers that repeat a
pass in their own way (`Layer.again`), state that no solver trains, and small layers, whose messages
would cost more than their memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from moka.errors import SolverError
from moka.layers.base import Layer
from moka.net import Net
from moka.parallel.team import Team

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

SMALLEST = 1 << 14  # numbers of a layer that is divided


def is_divided(tensor: Tensor) -> bool:
    """Whether this process keeps a part of a tensor only."""
    return hasattr(tensor, "to_local")  # a DTensor; its package takes a second to import


def own_part(tensor: Tensor) -> Tensor:
    """What this process keeps of a tensor: all of it, unless it is divided."""
    return cast("DTensor", tensor).to_local() if is_divided(tensor) else tensor


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that belongs to this process's part of a parameter."""
    if not is_divided(like):
        return whole
    mesh = cast("DTensor", like).device_mesh
    parts, rank = torch.chunk(whole, mesh.size()), mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else whole[:0]


def gathered(own: Tensor, like: Tensor) -> Tensor:
    """The whole tensor, on the CPU, that all processes have parts of as of a parameter."""
    if not is_divided(like):
        return own
    size = cast("DTensor", like).device_mesh.size()
    padded = own.new_zeros(-(-like.shape[0] // size), *like.shape[1:])
    padded[: len(own)].copy_(own)
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded)
    return torch.cat(parts)[: like.shape[0]].cpu()


def norm_of(tensors: Sequence[Tensor]) -> float:
    """The L2 norm of all numbers of some tensors; all processes ask if one of them is divided."""
    divided = [own_part(tensor) for tensor in tensors if is_divided(tensor)]
    norms = torch._foreach_norm([tensor for tensor in tensors if not is_divided(tensor)])
    if divided:
        square = torch.stack([part.square().sum() for part in divided]).sum()
        dist.all_reduce(square)
        norms = (*norms, square.sqrt())
    return float(torch.linalg.vector_norm(torch.stack(norms)))


class Sharding:
    """Divides the parameters of a net among the processes of a team.

    All processes call the methods alike.

    Args:
        net: this process's copy of the model, equal in all of them.
        team: the processes, connected.

    Raises:
        SolverError: this PyTorch cannot divide parameters.
    """

    def __init__(self, net: Net, team: Team) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # PyTorch 2.6 has no such parameter, and cannot divide on a CPU.
        if "ignored_params" not in signature(fully_shard).parameters:
            raise SolverError(
                f"shard: true needs a newer PyTorch than {torch.__version__}.",
                advice="It is tested with PyTorch 2.13.",
            )
        self._net = net
        team.copy_from_first([parameter.detach() for parameter in net.parameters()])
        mesh = init_device_mesh(net.device.type, (team.size,))
        self.layers = [layer for layer in net.layers if _can_be_divided(layer, net)]
        for layer in self.layers:
            state = {layer.weights[k] for k in layer.state_blobs}
            for weight in set(layer.weights) - state:  # FSDP2 takes no other layout
                weight.data = weight.data.contiguous()
            fully_shard(layer, mesh=mesh, ignored_params=state)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, which all processes enter, the layers have whole parameters, to be read or
        written, by test nets too; the net itself does not run. What is written is lost but for
        `take_over`."""
        divided = [
            (layer, name, parameter)
            for layer in self.layers
            for name, parameter in layer._parameters.items()
            if parameter is not None and is_divided(parameter)
        ]
        for layer, name, parameter in divided:
            together = gathered(own_part(parameter.detach()), parameter)
            layer._parameters[name] = nn.Parameter(
                together.to(parameter.device), parameter.requires_grad
            )
        for index in self._net.made_layer_blobs:
            self._net.show_new_parameters(index)
        try:
            yield
        finally:
            for layer, name, parameter in divided:
                used = layer._parameters[name]
                assert used is not None
                used.data = used.data.new_empty(0)  # test nets go on referring to it
                layer._parameters[name] = parameter

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, which all processes enter, this one can run the net without the others.

        An error leaves the parameters whole; it ends the run.
        """
        for module in self._modules:
            module.set_reshard_after_forward(False)
            module.set_reshard_after_backward(False)
            module.set_requires_gradient_sync(False)
            module.unshard()
        yield
        for module in self._modules:
            for weight in cast("nn.Module", module).parameters():
                if not is_divided(weight):
                    weight.grad = None
            module.reshard()
            module.set_reshard_after_forward(True)
            module.set_reshard_after_backward(True)
            module.set_requires_gradient_sync(True)

    @property
    def _modules(self) -> list[FSDPModule]:
        return cast("list[FSDPModule]", self.layers)

    def take_over(self, net: Net, sharded: Sequence[nn.Parameter]) -> None:
        """Within `whole`: keep this process's part of what was written to the parameters.

        Args:
            sharded: the parameters of `net.learnable` outside of `whole`.
        """
        for blob, parameter in zip(net.learnable, sharded, strict=True):
            if is_divided(parameter):
                written = net.parameter_of(blob).detach()
                own_part(parameter.detach()).copy_(part_of(written, parameter))


def _can_be_divided(layer: Layer, net: Net) -> bool:
    """Whether FSDP2 can put the parameters of a layer together when it runs."""
    learned = [w for k, w in enumerate(layer.weights) if k not in layer.state_blobs]
    if sum(w.numel() for w in learned) < SMALLEST or type(layer).again is not Layer.again:
        return False
    shared = {id(net.parameter_of(blob)) for blob in net.learnable if len(blob.users) > 1}
    return not any(id(weight) in shared for weight in layer.weights)
