"""`caffe time`: benchmark a model layer by layer."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

import torch

from moka.cli import device
from moka.engine.debug_info import log_all_parameters
from moka.engine.layerwise import Layerwise
from moka.errors import UsageError
from moka.net import Net, build_net
from moka.schema import caffe_pb2

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

PHASES = {"": caffe_pb2.TRAIN, "TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}


def time(flags: dict[str, Any]) -> None:
    """Time `-model`: one untimed pass, then `-iterations` passes; inputs hold zeros."""
    if not flags["model"]:
        raise UsageError("Need a model definition to time.", advice="Give --model=FILE.")
    if flags["phase"] not in PHASES:
        raise UsageError(f'phase must be "TRAIN" or "TEST", found {flags["phase"]}.')
    if flags["iterations"] < 1:
        raise UsageError(f"--iterations must be > 0, got {flags['iterations']}.")
    where = device.use(flags["gpu"])
    net = build_net(
        flags["model"],
        PHASES[flags["phase"]],
        level=flags["level"],
        stages=flags["stage"].split(","),
        device=where,
    )
    engine = Layerwise(net, every_layer=True)
    log.info("Performing Forward")
    log.info("Initial loss: %g", engine.forward())
    log.info("Performing Backward")
    engine.backward()
    if net.debug_info:
        log_all_parameters(net)
        net.debug_info = False  # the benchmark runs layers, not the net
    _measure(net, engine, flags["iterations"])
    net.close()


def _measure(net: Net, engine: Layerwise, iterations: int) -> None:
    layers = range(len(net.layers))
    forward_s, backward_s = [0.0] * len(layers), [0.0] * len(layers)
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations.", iterations)
    start = perf_counter()
    for k in range(iterations):
        begun = perf_counter()
        for i in layers:
            forward_s[i] += _timed(net.device, lambda i=i: engine.forward(i, i))
        for i in reversed(layers):
            backward_s[i] += _timed(net.device, lambda i=i: engine.backward(i, i))
        ms = (perf_counter() - begun) * 1e3
        detail.info("Iteration: %d forward-backward time: %g ms.", k + 1, ms)
    total_ms = (perf_counter() - start) * 1e3
    per = 1e3 / iterations
    log.info("Average time per layer: ")
    for i in layers:
        name = net.graph.nodes[i].name
        log.info("%10s\tforward: %g ms.", name, forward_s[i] * per)
        log.info("%10s\tbackward: %g ms.", name, backward_s[i] * per)
    log.info("Average Forward pass: %g ms.", sum(forward_s) * per)
    log.info("Average Backward pass: %g ms.", sum(backward_s) * per)
    log.info("Average Forward-Backward: %g ms.", total_ms / iterations)
    log.info("Total Time: %g ms.", total_ms)
    log.info("*** Benchmark ends ***")


def _timed(where: torch.device, run: Any) -> float:
    """Seconds of a call, its work on the device included."""
    start = perf_counter()
    run()
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return perf_counter() - start
