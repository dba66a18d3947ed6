"""`caffe time --engine`: a net for testing as it runs in a program, part by part."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moka.engine.sources import Sources
from moka.errors import UsageError
from moka.inference.best import best_program
from moka.inference.engines import chosen
from moka.inference.fast import can_be_fast
from moka.inference.flow import flow_of
from moka.inference.profile import Part, Peak, measure_peak, profile
from moka.net import Net
from moka.report.json_lines import to_json

log = logging.getLogger("moka")
records = logging.getLogger("moka.records")  # a terminal shows a table in their place

GIGA = 1e9


@dataclass(frozen=True)
class PartTime:
    """Layers that ran as one. `share` is the part of the roofline that they reach: the time that
    the measured peaks allow at least, by the time that it took."""

    layers: str
    types: str
    ms: float
    gflops: float
    share: float


@dataclass(frozen=True)
class ProgramTiming:
    """What `caffe time --engine` measures.

    Attributes:
        engine: the backend.
        peak_gflops, peak_gb: what the machine does at most in a second.
        ms: the median of a whole pass.
        gflops, share: of the whole pass.
    """

    net: str
    engine: str
    threads: int
    iterations: int
    peak_gflops: float
    peak_gb: float
    ms: float
    gflops: float
    share: float
    parts: tuple[PartTime, ...]


def time_program(net: Net, flags: dict[str, Any]) -> None:
    """Time a net for testing in a program of the engine in force; inputs hold zeros.

    Raises:
        UsageError: no program runs the net.
    """
    timing = measure_program(net, flags["iterations"])
    if flags["json"]:
        print(to_json(asdict(timing)))
    if sys.stderr.isatty() and not flags["quiet"]:
        Console(stderr=True).print(program_table(timing))
    for sentence in _sentences(timing):
        records.info(sentence)
        if flags["quiet"] and not flags["json"]:
            print(sentence)


def measure_program(net: Net, iterations: int) -> ProgramTiming:
    """Make the program of a net, and time it."""
    program = None
    if can_be_fast(net):
        given = Sources(net).next_batch()
        program = best_program(net, flow_of(net), given, net.graph.outputs)
    if program is None:
        raise UsageError(
            f"with the engine {chosen()} no program runs this net, or the layers are faster.",
            advice="Give --engine=layerwise to time its layers.",
        )
    peak = measure_peak()
    parts, whole_s = profile(program, given, iterations)
    flops = sum(part.flops for part in parts)
    least_s = sum(peak.least_s(part.flops, part.moved) for part in parts)
    return ProgramTiming(
        net=net.name,
        engine=program.backend,
        threads=torch.get_num_threads(),
        iterations=iterations,
        peak_gflops=peak.flops / GIGA,
        peak_gb=peak.bytes / GIGA,
        ms=whole_s * 1e3,
        gflops=flops / whole_s / GIGA,
        share=least_s / whole_s,
        parts=tuple(_timed(part, peak) for part in parts),
    )


def _timed(part: Part, peak: Peak) -> PartTime:
    return PartTime(
        " + ".join(part.layers),
        " + ".join(part.types),
        part.seconds * 1e3,
        part.flops / part.seconds / GIGA if part.seconds else 0.0,
        peak.least_s(part.flops, part.moved) / part.seconds if part.seconds else 0.0,
    )


def _sentences(timing: ProgramTiming) -> Iterator[str]:
    yield (
        f"Engine {timing.engine}, {timing.threads} threads; this machine does at most"
        f" {timing.peak_gflops:.1f} GFLOP/s and {timing.peak_gb:.1f} GB/s."
    )
    yield "Average time per part: "
    for part in timing.parts:
        yield f"{part.layers:>10}\tforward: {_figures(part.ms, part.gflops, part.share)}"
    yield f"Forward pass: {_figures(timing.ms, timing.gflops, timing.share)}"


def _figures(ms: float, gflops: float, share: float) -> str:
    return f"{ms:g} ms, {gflops:.1f} GFLOP/s, {share:.0%} of what the machine can do."


def program_table(timing: ProgramTiming) -> Table:
    """For a terminal: a row for each part, and the whole."""
    title = (
        f"{timing.net}, {timing.engine}, {timing.threads} threads: median of {timing.iterations}"
        f" passes. Peak: {timing.peak_gflops:.1f} GFLOP/s, {timing.peak_gb:.1f} GB/s"
    )
    table = Table(title=Text(title), title_justify="left", show_footer=True)
    table.add_column("layers", "the whole pass")
    table.add_column("types")
    table.add_column("ms", f"{timing.ms:.3f}", justify="right")
    table.add_column("GFLOP/s", f"{timing.gflops:.1f}", justify="right")
    table.add_column("of peak", f"{timing.share:.0%}", justify="right")
    for part in timing.parts:
        figures = (f"{part.ms:.3f}", f"{part.gflops:.1f}", f"{part.share:.0%}")
        table.add_row(*map(Text, (part.layers, part.types, *figures)))
    return table
