"""`caffe.get_solver`, `caffe.SGDSolver`: the solver as pycaffe's users know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, cast, overload

from google.protobuf.message import DecodeError

from caffe.net import Net, check_file
from caffe.vectors import NetVec
from moka.heap import keep_freed_memory_for
from moka.inference.engines import may_record
from moka.report.caffe_log import log_record
from moka.report.glog import show_pycaffe_log
from moka.schema import caffe_pb2, parse_text
from moka.solver import solver as moka_solver
from moka.solver.config import SolverConfig, read_solver
from moka.types import PathLike


class SolverCallbacks(Protocol):
    """What `Solver.add_callback` takes as one object, such as a `caffe.NCCL`."""

    def on_start(self) -> object: ...

    def on_gradients_ready(self) -> object: ...


class Solver:
    """Trains a net.

    Args:
        solver_file: the prototxt, or its message.

    Raises:
        RuntimeError: a file that cannot be opened.
        MokaError: a solver or net with a fault.
    """

    type = "SGD"
    _counts_by_hand = False

    def __init__(self, solver_file: PathLike | caffe_pb2.SolverParameter) -> None:
        show_pycaffe_log()
        config = _read(solver_file)
        config.message.type = self.type  # the class decides
        self._attach(config)

    @classmethod
    def of(cls, config: SolverConfig) -> Self:
        """The solver of a config that has been read already."""
        self = cls.__new__(cls)
        self._attach(config)
        return self

    def _attach(self, config: SolverConfig) -> None:
        keep_freed_memory_for(self)
        self._solver = moka_solver.Solver(
            config, listeners=[log_record], keep_blobs=True, records=may_record()
        )
        self._net = Net.of(self._solver.engine.layerwise)
        self._test_nets = NetVec(Net.of(e.layerwise) for e in self._solver.test_engines)

    @property
    def net(self) -> Net:
        """The net that is trained."""
        return self._net

    @property
    def test_nets(self) -> NetVec:
        """Those it is tested with."""
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
        """The solver's message; changes take effect in the next iteration."""
        return self._solver.config

    def step(self, iterations: int) -> None:
        """Train for some iterations; afterwards every blob holds data and diff of the last pass,
        every parameter's diff its update.

        Raises:
            SolverError: the loss or a gradient is no longer a finite number.
        """
        self._solver.step(iterations)

    def solve(self, resume_file: str | None = None) -> None:
        """Train to max_iter, with tests and snapshots on the way.

        Args:
            resume_file: a .solverstate to go on from.
        """
        self._solver.solve(resume_file if resume_file is None else check_file(resume_file))

    def snapshot(self) -> None:
        """Write model and state now."""
        self._solver.snapshot()

    def restore(self, state_file: str) -> None:
        """Go on from a snapshot."""
        self._solver.restore(check_file(state_file))

    def apply_update(self) -> None:
        """One update of the parameters from the diffs they have now; counts as an iteration."""
        self._solver.apply_update(counts=not self._counts_by_hand)

    def increment_iter(self) -> None:
        """Count an iteration, as in the Caffe of deepsim. From then on `apply_update` counts none:
        a program that calls both makes several updates, or several passes, in an iteration."""
        self._counts_by_hand = True
        self._solver.count_iteration()

    def share_weights(self, net: Net) -> None:
        """Let another net use the parameters that are trained, by layer name."""
        net.share_with(self._net)

    @overload
    def add_callback(
        self, on_start: Callable[[], object], on_gradients_ready: Callable[[], object], /
    ) -> None: ...

    @overload
    def add_callback(self, callbacks: SolverCallbacks, /) -> None: ...

    def add_callback(
        self,
        on_start: Callable[[], object] | SolverCallbacks,
        on_gradients_ready: Callable[[], object] | None = None,
        /,
    ) -> None:
        """Call two functions in each iteration: one before its passes, one between them and the
        update. Both can be methods of one object, such as a `caffe.NCCL`."""
        if on_gradients_ready is None:
            callbacks = cast("SolverCallbacks", on_start)
            on_start, on_gradients_ready = callbacks.on_start, callbacks.on_gradients_ready
        self._solver.on_start.append(cast("Callable[[], object]", on_start))
        self._solver.on_gradients_ready.append(on_gradients_ready)


class SGDSolver(Solver):
    """Trains by stochastic gradient descent with momentum."""


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


def _read(solver: PathLike | caffe_pb2.SolverParameter) -> SolverConfig:
    is_message = isinstance(solver, caffe_pb2.SolverParameter)
    return read_solver(solver if is_message else check_file(solver))


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


def get_solver(solver_file: PathLike | caffe_pb2.SolverParameter) -> SGDSolver:
    """The solver of the class that the file's `type` names; for Moka's own types an SGDSolver."""
    show_pycaffe_log()
    config = _read(solver_file)
    return _CLASSES.get(config.message.type, SGDSolver).of(config)


def get_solver_from_string(text: str | bytes) -> SGDSolver:
    """`get_solver` of the text of a prototxt, or of the bytes of a message, as in the Caffe of the
    generated chairs.

    Raises:
        MokaError: a solver or net with a fault.
    """
    if isinstance(text, bytes):
        try:
            return get_solver(caffe_pb2.SolverParameter.FromString(text))
        except DecodeError:  # a text that was read as bytes
            text = text.decode("utf-8", "replace")
    return get_solver(parse_text(text, caffe_pb2.SolverParameter))
