"""The few calls most programs need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moka.net import Net, NetLike, build_net
from moka.report.records import Listener
from moka.schema import caffe_pb2
from moka.schema.text import PathLike
from moka.solver.config import SolverLike
from moka.solver.solver import Solver
from moka.weights import load_weights


def load(
    net: NetLike,
    weights: PathLike | Iterable[PathLike] | None = None,
    *,
    phase: caffe_pb2.Phase = caffe_pb2.TEST,
    level: int = 0,
    stages: Sequence[str] = (),
) -> Net:
    """A net from a prototxt file (or message), with weights from .caffemodel files.

    Args:
        net: the file, or a NetParameter.
        weights: one file, several joined by commas, or an iterable of files; None keeps what the
            fillers made.
        phase: caffe_pb2.TEST or caffe_pb2.TRAIN.
        level, stages: what the rules of its layers are held against.

    Returns:
        An `nn.Module`; call it with a tensor for each input, by name.

    Raises:
        MokaError: one clear sentence.
    """
    built = build_net(net, phase, level=level, stages=stages)
    if weights is not None:
        load_weights(built, weights)
    return built


def train(
    solver: SolverLike, *, listeners: Iterable[Listener] = (), resume: str | None = None
) -> Solver:
    """Train by a solver prototxt (or message) to its end.

    Args:
        solver: the file, or a SolverParameter.
        listeners: called with each record of what happens (`moka.report.records`).
        resume: a .solverstate to go on from.

    Returns:
        The solver; its `net` is trained.

    Raises:
        MokaError: one clear sentence.
    """
    made = Solver(solver, listeners=listeners)
    try:
        made.solve(resume)
    finally:
        made.close()
    return made
