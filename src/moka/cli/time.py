"""`caffe time`: benchmark a model layer by layer."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moka.cli.time_program import time_program
from moka.command import device, engine
from moka.engine.debug_info import log_all_parameters
from moka.engine.layerwise import Layerwise
from moka.errors import UsageError
from moka.net import Net, build_net
from moka.report.json_lines import to_json
from moka.schema import caffe_pb2

log = logging.getLogger("moka")
records = logging.getLogger("moka.records")  # a terminal shows a table in their place
detail = logging.getLogger("moka.detail")


@dataclass(frozen=True)
class LayerTime:
    """The time of one layer, averaged over all passes."""

    name: str
    type: str
    forward_ms: float
    backward_ms: float


@dataclass(frozen=True)
class Timing:
    """What `caffe time` measures.

    Attributes:
        engine: runs one layer after the other, and waits for each.
        warm_up_passes: passes before the timed ones.
        forward_ms, backward_ms: the sums over all layers.
        forward_backward_ms: of a whole pass, with what lies between the layers.
        total_ms: all iterations.
    """

    net: str
    phase: str
    device: str
    engine: str
    warm_up_passes: int
    iterations: int
    forward_ms: float
    backward_ms: float
    forward_backward_ms: float
    total_ms: float
    layers: tuple[LayerTime, ...]


PHASES = {"": caffe_pb2.TRAIN, "TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}


def time(flags: dict[str, Any]) -> None:
    """Time `-model`: one untimed pass, then `-iterations` passes; inputs hold zeros. With an
    `-engine` other than layerwise, time the program that it makes of the net for testing."""
    if not flags["model"]:
        raise UsageError("Need a model definition to time.", advice="Give --model=FILE.")
    if flags["phase"] not in PHASES:
        raise UsageError(f'phase must be "TRAIN" or "TEST", found {flags["phase"]}.')
    if flags["iterations"] < 1:
        raise UsageError(f"--iterations must be > 0, got {flags['iterations']}.")
    engine.use(flags["engine"])
    in_program = flags["engine"] not in ("", "layerwise")
    if in_program and flags["phase"] == "TRAIN":
        raise UsageError(
            f"the engine {flags['engine']} runs nets for testing only.",
            advice="Give --phase=TEST.",
        )
    where = device.use(flags["gpu"])
    net = build_net(
        flags["model"],
        caffe_pb2.TEST if in_program else PHASES[flags["phase"]],
        level=flags["level"],
        stages=flags["stage"].split(","),
        device=where,
    )
    net.write_no_results()
    if in_program:
        log.info("*** Benchmark begins ***")
        log.info("Testing for %d iterations.", flags["iterations"])
        time_program(net, flags)
    else:
        _time_layers(net, flags)
    net.close()
    log.info("*** Benchmark ends ***")


def _time_layers(net: Net, flags: dict[str, Any]) -> None:
    layerwise = Layerwise(net, every_layer=True)
    log.info("Performing Forward")
    log.info("Initial loss: %g", layerwise.forward())
    log.info("Performing Backward")
    layerwise.backward()
    if layerwise.debug_info:
        log_all_parameters(net)
        layerwise.debug_info = False  # the benchmark runs layers, not the net
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations.", flags["iterations"])
    timing = time_layers(net, layerwise, flags["iterations"])
    if flags["json"]:
        print(to_json(asdict(timing)))
    if sys.stderr.isatty() and not flags["quiet"]:
        Console(stderr=True).print(time_table(timing))
    for sentence in _sentences(timing):
        records.info(sentence)
        if flags["quiet"] and not flags["json"]:
            print(sentence)


def time_layers(net: Net, engine: Layerwise, iterations: int) -> Timing:
    """Time every layer forward, then backward, each by itself. Run one pass before this one."""
    layers = range(len(net.layers))
    forward_s, backward_s = [0.0] * len(layers), [0.0] * len(layers)
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
    return Timing(
        net=net.name,
        phase=caffe_pb2.Phase.Name(net.graph.phase),
        device=str(net.device),
        engine="layerwise",
        warm_up_passes=1,
        iterations=iterations,
        forward_ms=sum(forward_s) * per,
        backward_ms=sum(backward_s) * per,
        forward_backward_ms=total_ms / iterations,
        total_ms=total_ms,
        layers=tuple(
            LayerTime(node.name, node.type, forward * per, backward * per)
            for node, forward, backward in zip(net.graph.nodes, forward_s, backward_s, strict=True)
        ),
    )


def _sentences(timing: Timing) -> Iterator[str]:
    """The lines of Caffe's log."""
    yield "Average time per layer: "
    for layer in timing.layers:
        yield f"{layer.name:>10}\tforward: {layer.forward_ms:g} ms."
        yield f"{layer.name:>10}\tbackward: {layer.backward_ms:g} ms."
    yield f"Average Forward pass: {timing.forward_ms:g} ms."
    yield f"Average Backward pass: {timing.backward_ms:g} ms."
    yield f"Average Forward-Backward: {timing.forward_backward_ms:g} ms."
    yield f"Total Time: {timing.total_ms:g} ms."


def time_table(timing: Timing) -> Table:
    """For a terminal: a row for each layer, with its share of the whole, and the sums."""
    title = (
        f"{timing.net}, {timing.phase}, {timing.device}:"
        f" milliseconds, mean of {timing.iterations} passes"
    )
    table = Table(title=Text(title), title_justify="left", show_footer=True)
    both = timing.forward_ms + timing.backward_ms
    table.add_column("layer", "all layers")
    table.add_column("type")
    table.add_column("forward", f"{timing.forward_ms:.3f}", justify="right")
    table.add_column("backward", f"{timing.backward_ms:.3f}", justify="right")
    table.add_column("share", f"of {both:.3f}", justify="right")
    for layer in timing.layers:
        ms = layer.forward_ms, layer.backward_ms
        share = sum(ms) / both if both else 0.0
        cells = (layer.name, layer.type, *(f"{each:.3f}" for each in ms), f"{share:.1%}")
        table.add_row(*map(Text, cells))
    return table


def _timed(where: torch.device, run: Any) -> float:
    """Seconds of a call, its work on the device included."""
    start = perf_counter()
    run()
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return perf_counter() - start
