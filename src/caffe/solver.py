"""`caffe.get_solver`, `caffe.SGDSolver`: the solver as pycaffe's users know it."""

from __future__ import annotations

from typing import Self

from caffe.pycaffe import Net, check_file
from moka.report.caffe_log import log_record
from moka.schema import caffe_pb2
from moka.schema.text import PathLike
from moka.solver.config import read_solver
from moka.solver.solver import Solver


class SGDSolver:
    """Trains a net.

    Args:
        solver_file: the prototxt.
    """

    type = "SGD"

    def __init__(self, solver_file: str) -> None:
        config, file = read_solver(check_file(solver_file))
        config.type = self.type  # the class decides
        self._attach(config, file)

    @classmethod
    def of(cls, config: caffe_pb2.SolverParameter, file: PathLike) -> Self:
        """The solver of a message that has been read already."""
        self = cls.__new__(cls)
        self._attach(config, file)
        return self

    def _attach(self, config: caffe_pb2.SolverParameter, file: PathLike) -> None:
        self._solver = Solver(config, file=file, listeners=[log_record], keep_blobs=True)
        self._net = Net.of(self._solver.net)
        self._test_nets = [Net.of(net) for net in self._solver.test_nets]

    @property
    def net(self) -> Net:
        return self._net

    @property
    def test_nets(self) -> list[Net]:
        return self._test_nets

    @property
    def iter(self) -> int:
        """How many updates have been made."""
        return self._solver.iteration

    @property
    def lr(self) -> float:
        """The rate of the next iteration."""
        return self._solver.rate

    @property
    def param(self) -> caffe_pb2.SolverParameter:
        """The solver's message."""
        return self._solver.config

    def step(self, iterations: int) -> None:
        """Train for some iterations; afterwards every blob holds its data, every parameter's
        diff its update."""
        self._solver.step(iterations)

    def solve(self, resume_file: str | None = None) -> None:
        """Train to max_iter."""
        self._solver.solve(resume_file)

    def snapshot(self) -> None:
        """Write model and state now."""
        self._solver.snapshot()

    def restore(self, state_file: str) -> None:
        """Go on from a snapshot."""
        self._solver.restore(check_file(state_file))


class NesterovSolver(SGDSolver):
    """Trains by Nesterov's accelerated gradient."""

    type = "Nesterov"


class AdaGradSolver(SGDSolver):
    """Trains by AdaGrad."""

    type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """Trains by RMSProp."""

    type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """Trains by AdaDelta."""

    type = "AdaDelta"


class AdamSolver(SGDSolver):
    """Trains by Adam."""

    type = "Adam"


_CLASSES: dict[str, type[SGDSolver]] = {
    cls.type: cls
    for cls in (
        SGDSolver,
        NesterovSolver,
        AdaGradSolver,
        RMSPropSolver,
        AdaDeltaSolver,
        AdamSolver,
    )
}


def get_solver(solver_file: str) -> SGDSolver:
    """The solver of the class that the file's `type` names; a type of Moka's own has none of its
    own name and is an SGDSolver."""
    config, file = read_solver(check_file(solver_file))
    return _CLASSES.get(config.type, SGDSolver).of(config, file)
