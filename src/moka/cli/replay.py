"""`caffe train --replay FILE`: an iteration that broke, run again layer by layer."""

from __future__ import annotations

import logging
from math import prod

import torch

from moka.engine.trace import Look, trace
from moka.schema import caffe_pb2
from moka.solver.config import train_net
from moka.solver.faults.replay import load_replay, read_replay
from moka.types import PathLike

log = logging.getLogger("moka")


def replay(
    config: caffe_pb2.SolverParameter, solver_file: PathLike, file: str, where: torch.device
) -> None:
    """Run the iteration and log each array's range, then the first that is not finite."""
    recorded = read_replay(file)
    net, start = load_replay(train_net(config, solver_file), recorded, where)
    log.info(
        "Iteration %d of %s, at a learning rate of %g", recorded.iteration, net.name, recorded.rate
    )
    for key, names in recorded.under("records").items():
        layer = net.graph.nodes[int(key.partition("/")[0])].name
        log.info("    Layer %s, batch: %s", layer, ", ".join(names))
    fault: Look | None = None
    for look in trace(net, start):
        log.info(line(look))
        if look.not_finite:
            fault = fault or look
    if fault is None:
        log.info("Every value is finite.")
    else:
        log.info("Not finite at first: %s (%s).", fault.place, fault.extent)


def line(look: Look) -> str:
    """`    [Forward] Layer ip, top blob ip data: min -1, max 2, mean abs 0.5`, and what of it is
    not finite."""
    way, side = ("Forward", "data") if look.forward else ("Backward", "diff")
    parts = []
    if look.not_finite < prod(look.shape):
        parts.append(f"min {look.minimum:g}, max {look.maximum:g}, mean abs {look.mean_abs:g}")
    if look.not_finite:
        parts.append(f"not finite: {look.extent}")
    return f"    [{way}] Layer {look.layer}, {look.what} {side}: {'; '.join(parts) or 'empty'}"
