"""`caffe.get_solver`, `caffe.SGDSolver`: the solver as pycaffe's users know it."""

from __future__ import annotations

from caffe.pycaffe import Net, check_file
from moka.report.caffe_log import log_record
from moka.schema import caffe_pb2
from moka.solver.solver import Solver


class SGDSolver:
    """Trains a net.

    Args:
        solver_file: the prototxt.
    """

    def __init__(self, solver_file: str) -> None:
        self._solver = Solver(check_file(solver_file), listeners=[log_record], keep_blobs=True)
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


def get_solver(solver_file: str) -> SGDSolver:
    """The solver of the class that the file's `type` names."""
    return SGDSolver(solver_file)
