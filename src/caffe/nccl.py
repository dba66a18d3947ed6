"""`caffe.NCCL`: several processes that train one model together."""

from __future__ import annotations

import torch.distributed

from caffe.solver import Solver
from moka.errors import SolverError
from moka.parallel.declared import declared_team
from moka.parallel.join import join_team, new_uid
from moka.parallel.reduce import GradientMean


def has_nccl() -> bool:
    """Whether `NCCL` works here: whether PyTorch has NCCL or gloo to connect processes."""
    return torch.distributed.is_available()


class NCCL:
    """Connects the solvers of all processes that were given the same uid, and averages gradients.

    From then on they skip steps, stop, and save together. Give it to `solver.add_callback`, and to
    `solver.net.after_backward` to have each layer's gradients averaged as soon as they are there.
    `caffe.set_solver_count` and `caffe.set_solver_rank` say how many there are and which one this
    is, before the solver is made.

    Args:
        solver: the one of this process.
        uid: from `NCCL.new_uid()`, in one process, for all.

    Raises:
        SolverError: a rank beyond the number of solvers, or processes that do not find each other.
    """

    def __init__(self, solver: Solver, uid: bytes) -> None:
        inner, declared = solver._solver, declared_team()
        made_as = inner.team.rank, inner.team.size
        if (declared.rank, declared.size) != made_as:
            raise SolverError(
                f"the solver was made as number {made_as[0]} of {made_as[1]}, and now it is"
                f" declared to be number {declared.rank} of {declared.size}.",
                advice="Call set_solver_count and set_solver_rank before the solver is made.",
            )
        inner.join(join_team(uid, *made_as, inner.net.device))
        self._mean = GradientMean(inner.net, inner.team, inner.config)

    @staticmethod
    def new_uid() -> bytes:
        """A name under which processes of one machine find each other."""
        return new_uid()

    def bcast(self) -> None:
        """Give every solver the parameters of the first."""
        self._mean.broadcast()

    def on_start(self) -> None:
        """Before an iteration; the solver calls it."""
        self._mean.on_start()

    def on_gradients_ready(self) -> None:
        """Before an update; the solver calls it."""
        self._mean.on_gradients_ready()

    def __call__(self, layer: int) -> None:
        """After a layer's backward pass; the net calls it."""
        self._mean.after_layer(layer)
