"""Several solvers, each a process of its own, that train one model together.

Each computes the gradients of its own share of the data; their mean is what every one of them
updates its parameters with, so that the parameters stay equal.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from moka import context
from moka.errors import SolverError
from moka.solver.solver import Solver


def new_uid() -> bytes:
    """A name under which processes of this machine find each other; make one and give it to all."""
    return os.fsencode(os.path.join(tempfile.gettempdir(), f"moka-{uuid.uuid4().hex}"))


class GradientMean:
    """Averages a solver's gradients over all solvers that hold the same uid.

    How many they are and which one this is says the context (`set_solver_count`,
    `set_solver_rank`). NCCL carries the numbers between GPUs, gloo between CPUs. With a single
    solver nothing happens.

    Args:
        solver: the one of this process.
        uid: from `new_uid`.

    Raises:
        SolverError: a rank beyond the number of solvers, or solvers that do not find each other.
    """

    def __init__(self, solver: Solver, uid: bytes) -> None:
        self.solver = solver
        self.count, self.rank = context.solver_count(), context.solver_rank()
        if not 0 <= self.rank < self.count:
            raise SolverError(
                f"a solver of rank {self.rank} cannot be one of {self.count}.",
                advice="Call set_solver_count and set_solver_rank before the solver is made.",
            )
        self._done: set[int] = set()  # parameters whose gradients are averaged already
        if self.count > 1:
            _join(uid, solver.net.device, self.rank, self.count)

    def broadcast(self) -> None:
        """Give every solver the parameters of the first."""
        if self.count == 1:
            return
        with self.solver.net.parameters_in_use():
            for parameter in self._parameters():
                whole = parameter.detach().contiguous()
                dist.broadcast(whole, 0)
                parameter.detach().copy_(whole)

    def on_start(self) -> None:
        """An iteration begins."""
        self._done.clear()

    def on_gradients_ready(self) -> None:
        """Average what `after_layer` has not averaged yet."""
        self._average([p for p in self._parameters() if id(p) not in self._done])
        self._done.clear()

    def after_layer(self, index: int) -> None:
        """Average the gradients of the parameters that layer `index` owns, once its backward pass
        has run. If the solver sums several passes they are averaged at their end instead."""
        if self.solver.config.iter_size > 1:
            return
        net = self.solver.net
        owned = [net.parameter_of(blob) for blob in net.learnable if blob.owner[0] == index]
        self._average(owned)
        self._done.update(map(id, owned))

    def _parameters(self) -> list[nn.Parameter]:
        net = self.solver.net
        return [net.parameter_of(blob) for blob in net.learnable]

    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        if self.count == 1 or not parameters:
            return
        with self.solver.net.parameters_in_use():
            grads = [_grad(parameter) for parameter in parameters]
            whole = torch.cat([grad.reshape(-1) for grad in grads])  # one message for all
            dist.all_reduce(whole)
            whole /= self.count
            means = torch.split(whole, [grad.numel() for grad in grads])
            for grad, mean in zip(grads, means, strict=True):
                grad.copy_(mean.view(grad.shape))


def _grad(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _join(uid: bytes, device: torch.device, rank: int, count: int) -> None:
    """Meet the other processes at the file that the uid names."""
    if dist.is_initialized():  # of a run before this one
        dist.destroy_process_group()
    file = os.fsdecode(uid)
    backend = "nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo"
    try:
        store = dist.FileStore(file, count)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    except (RuntimeError, ValueError, OSError) as error:
        raise SolverError(f"solver {rank} of {count} could not join the others: {error}") from None
    dist.barrier()
    if rank == 0:
        with contextlib.suppress(OSError):
            os.unlink(file)
