"""`caffe train --replay FILE`: an iteration that diverged, run again layer by layer."""

from __future__ import annotations

import logging
from math import prod

import torch

from moka.solver.config import SolverConfig, train_net
from moka.solver.faults.replay import load_replay, read_replay
from moka.solver.faults.trace import ArraySummary, trace_pass

log = logging.getLogger("moka")


def replay(config: SolverConfig, file: str, where: torch.device) -> None:
    """Run the iteration and log each array's range, then the first that is not finite."""
    recorded = read_replay(file)
    net, start = load_replay(train_net(*config), recorded, where)
    log.info(
        "Iteration %d of %s, at a learning rate of %g", recorded.iteration, net.name, recorded.rate
    )
    for key, names in recorded.of_kind("records").items():
        layer = net.graph.nodes[int(key.partition("/")[0])].name
        log.info("    Layer %s, batch: %s", layer, ", ".join(names))
    fault: ArraySummary | None = None
    for summary in trace_pass(net, start):
        log.info(array_line(summary))
        if summary.not_finite:
            fault = fault or summary
    if fault is None:
        log.info("Every value is finite.")
    else:
        log.info("Not finite at first: %s (%s).", fault.place, fault.extent)


def array_line(array: ArraySummary) -> str:
    """`    [Forward] Layer ip, top blob ip data: min -1, max 2, mean abs 0.5`, then the
    values that are not finite."""
    way, side = ("Forward", "data") if array.forward else ("Backward", "diff")
    parts = []
    if array.not_finite < prod(array.shape):
        parts.append(f"min {array.minimum:g}, max {array.maximum:g}, mean abs {array.mean_abs:g}")
    if array.not_finite:
        parts.append(f"not finite: {array.extent}")
    return f"    [{way}] Layer {array.layer}, {array.what} {side}: {'; '.join(parts) or 'empty'}"
