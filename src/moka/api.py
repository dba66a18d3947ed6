"""The few calls most programs need."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing

import torch

from moka.context import NO_GPU_FOR_SOLVER, gpu_or_cpu
from moka.errors import UsageError
from moka.inference.engines import may_record
from moka.inference.module import speed_up
from moka.net import Net, NetLike, build_net
from moka.net.batch_size import batch_size
from moka.report.glog import log_to_stderr
from moka.report.records import Listener
from moka.report.run import show_run
from moka.schema import UnknownFields, caffe_pb2, unknown_fields_are
from moka.solver.config import SolverLike, read_solver
from moka.solver.on_devices import as_devices, train_on_several
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
        level: with `phase` and `stages` it decides which layers are in the net, by the rules of
            their `include` and `exclude`.
        stages: see `level`.
        unknown_fields: "warn" skips fields of the prototxt that no known fork of Caffe has.

    Returns:
        The net, an `nn.Module`. Called as `net(x)`, or as `net(data=x)` with a tensor for each
        input by its name, it returns a dict of its outputs. It writes no files of detections
        (`save_output_param`).

    Raises:
        MokaError: a file is missing, has errors, or does not fit; the message says what to do.
    """
    with unknown_fields_are(unknown_fields):
        built = build_net(net, phase, level=level or None, stages=stages)
    built.write_no_results()
    if weights is not None:
        load_weights(built, weights)
    return speed_up(built)


def train(
    solver: SolverLike,
    *,
    listeners: Iterable[Listener] = (),
    resume: str | None = None,
    device: torch.device | None = None,
    devices: Sequence[int | str | torch.device] = (),
    max_restarts: int = 3,
    progress: bool = False,
) -> Solver:
    """Train by a solver prototxt (or message) to its end.

    Args:
        solver: the file, or a SolverParameter.
        listeners: called with each record of what happens (`moka.report.records`); with several
            devices in a thread of this process, with the first process's records.
        resume: a .solverstate to go on from.
        progress: show the run on standard error, as `caffe train` does: on a terminal a chart, a
            bar and tables; elsewhere the lines of Caffe's log.
        device: where it runs; None: the GPU `device_id` if `solver_mode` is GPU and there is
            one, else the CPU.
        devices: train on all of these, each in a process of its own with a batch of its own, as
            `caffe train --gpu 0,1` does: numbers of GPUs, or "cpu" several times. A program that
            does so must start its work under `if __name__ == "__main__":`, for the processes
            import it.
        max_restarts: with several devices, how often all processes are started again, from the
            last snapshot, when one is lost.

    Returns:
        The solver; its `net` is trained. With several devices it is a new one, in the state in
        which the first process ended.

    Raises:
        MokaError: the solver, its nets or their data have errors, or the training diverged; the
            message says what to do.
    """
    config = read_solver(solver)
    if devices and device is not None:
        raise UsageError("give either device or devices, not both.")
    if len(devices) > 1:
        return train_on_several(
            config,
            devices,
            listeners=list(listeners),
            resume=resume,
            max_restarts=max_restarts,
            progress=progress,
        )
    if devices:
        (device,) = as_devices(devices)
    if device is None:
        wants_gpu = config.message.solver_mode == caffe_pb2.SolverParameter.GPU
        device = torch.device("cpu")
        if wants_gpu:
            device = gpu_or_cpu(config.message.device_id, NO_GPU_FOR_SOLVER)
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    with ExitStack() as stack:
        if progress:
            stack.enter_context(log_to_stderr(plain=on_terminal))
        made = Solver(config, listeners=listeners, device=device, records=may_record())
        stack.enter_context(closing(made))
        if progress:
            images = batch_size(made.net) * made.config.iter_size
            stack.enter_context(show_run(made.listeners, images, on_terminal))
        made.solve(resume)
    return made
