"""The few calls most programs need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from moka.net import Net, NetLike, build_net
from moka.report.records import Listener
from moka.schema import UnknownFields, caffe_pb2, unknown_fields_are
from moka.solver.config import SolverLike, read_solver
from moka.solver.solver import Solver
from moka.types import PathLike
from moka.weights import load_weights


def load(
    net: NetLike,
    weights: PathLike | Iterable[PathLike] | None = None,
    *,
    phase: caffe_pb2.Phase = caffe_pb2.TEST,
    level: int = 0,
    stages: Sequence[str] = (),
    unknown_fields: UnknownFields = "error",
) -> Net:
    """A net from a prototxt file (or message), with weights from files.

    Args:
        net: the file, or a NetParameter.
        weights: a .caffemodel or its HDF5 form, several joined by commas, or an iterable of files;
            None keeps what the fillers made.
        phase: caffe_pb2.TEST or caffe_pb2.TRAIN.
        level, stages: what the rules of its layers are held against.
        unknown_fields: "warn" skips fields of the prototxt that no known fork of Caffe has.

    Returns:
        An `nn.Module`; call it with a tensor for each input, by name.

    Raises:
        MokaError: one clear sentence.
    """
    with unknown_fields_are(unknown_fields):
        built = build_net(net, phase, level=level, stages=stages)
    if weights is not None:
        load_weights(built, weights)
    return built


def train(
    solver: SolverLike,
    *,
    listeners: Iterable[Listener] = (),
    resume: str | None = None,
    device: torch.device | None = None,
) -> Solver:
    """Train by a solver prototxt (or message) to its end.

    Args:
        solver: the file, or a SolverParameter.
        listeners: called with each record of what happens (`moka.report.records`).
        resume: a .solverstate to go on from.
        device: where it runs; None: the GPU `device_id` if `solver_mode` is GPU and there is
            one, else the CPU.

    Returns:
        The solver; its `net` is trained.

    Raises:
        MokaError: one clear sentence.
    """
    config, file = read_solver(solver)
    if device is None:
        gpu = config.solver_mode == caffe_pb2.SolverParameter.GPU and torch.cuda.is_available()
        device = torch.device("cuda", config.device_id) if gpu else torch.device("cpu")
    made = Solver(config, file=file, listeners=listeners, device=device)
    try:
        made.solve(resume)
    finally:
        made.close()
    return made
