"""What training on several devices will take: `caffe plan`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from moka.checks.devices import DEVICES, SHARE_OF_PEAK, UPDATE_PASSES, estimated_step
from moka.checks.scaling import Bucket, Cluster, Forecast, Link, Step, forecast
from moka.checks.stand_in import build
from moka.checks.timing_here import measured_beside, measured_step
from moka.command.run import run
from moka.cores import usable_cores
from moka.errors import UsageError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net
from moka.net.batch_size import batch_size
from moka.net.outline import silence
from moka.parallel.team import Alone
from moka.report.json_lines import to_json
from moka.schema import caffe_pb2
from moka.solver.choose import rule_class
from moka.solver.config import SolverConfig, read_solver, train_net
from moka.solver.solver import Solver

# A message of NCCL within a machine and between machines, and one of gloo over the CPU.
LATENCY_S = {"inside": 6e-6, "between": 15e-6, "told": 40e-6}
MOST_ON_A_CORE = 4  # processes that are started to measure them
UNITS = {"b": 1 / 8, "B": 1.0}
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Plan:
    """What `caffe plan` says of a run.

    Attributes:
        processes: how many train.
        source: where the times of a single process come from.
        batch: images of an iteration, over all processes.
        forecast: the times of an iteration.
        device_bytes: memory that each process needs, at most.
        hours: to `max_iter`, without tests and snapshots.
    """

    processes: int
    source: str
    batch: int
    forecast: Forecast
    device_bytes: float
    hours: float

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["forecast"] |= {"hidden": self.forecast.hidden}
        return found | {"images_s": self.batch / self.forecast.step_s}

    def lines(self) -> list[str]:
        """The table, as text."""
        f = self.forecast
        rows = [
            ("processes", f"{self.processes}"),
            ("one process alone", _ms(f.alone_s)),
            ("an iteration", _ms(f.step_s)),
            ("all-reduce of the gradients", f"{_ms(f.all_reduce_s)}, {f.hidden:.0%} hidden"),
            ("waiting for it", _ms(f.waited_s)),
            ("copying the means", _ms(f.copied_s)),
            ("decisions of all", _ms(f.decided_s)),
            ("speed", f"{f.speedup:.2f} times one process ({f.speedup / self.processes:.1%})"),
            ("images per second", f"{self.batch / f.step_s:,.0f}"),
            ("memory of a device, at most", f"{self.device_bytes / 1e9:.2f} GB"),
            ("to max_iter", f"{self.hours:.3g} hours, without tests"),
        ]
        return [*(f"  {name:28} {value}" for name, value in rows), f"Times: {self.source}."]


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe plan --solver=FILE [--gpus N --nodes N --bandwidth RATE | --workers N]`."""
    return run("plan", _plan, argv)


def _plan(_: list[str], flags: dict[str, Any]) -> None:
    if not flags["solver"]:
        raise UsageError("a plan needs a solver.", advice="Give --solver=FILE.")
    for name, least in (("gpus", 1), ("nodes", 1), ("workers", 0), ("step_ms", 0)):
        if flags[name] < least:
            raise UsageError(f"--{name} must be >= {least}, got {flags[name]:g}.")
    config = read_solver(flags["solver"])
    with silence():
        if flags["workers"]:
            made = plan_of_workers(config, flags["workers"], strong=flags["strong"])
        else:
            made = plan_of_gpus(config, flags)
    print(to_json(made.as_json()) if flags["json"] else "\n".join(made.lines()))


def plan_of_workers(config: SolverConfig, workers: int, *, strong: bool = False) -> Plan:
    """A run with `--workers`, from times measured on this machine.

    As many processes make iterations beside each other, each by itself; then they send each other
    messages. Of very many only some are started, and their times are stretched.
    """
    cores = usable_cores()
    solver = Solver(config, device=torch.device("cpu"))
    alone = measured_step(solver)
    net, images = solver.net, batch_size(solver.net)
    solver.close()
    step, beside = alone, 1
    link = Link(float("inf"), 0.0, rings_only=True)
    if workers > 1:
        beside = min(workers, MOST_ON_A_CORE * cores)
        step, link = measured_beside(config, beside, parts=workers if strong else 1)
        step = _scaled(step, workers / beside)
    cluster = Cluster(workers, 1, link, link, link, copied_bytes_s=float("inf"), cores=cores)
    share = 1 / workers if strong else 1.0
    found = forecast(step, cluster, alone_s=alone.whole_s, share=share)
    source = f"measured on this machine's CPU ({cores} cores) with {beside} processes"
    return _plan_of(config, net, found, workers, images, source, share)


def plan_of_gpus(config: SolverConfig, flags: Mapping[str, Any]) -> Plan:
    """A run on the GPUs of one or several machines, from times that were measured on one GPU here,
    were given, or are estimated."""
    name = flags["device"].lower()
    if name not in DEVICES:
        raise UsageError(f"--device is one of {', '.join(DEVICES)}, not {flags['device']}.")
    size = flags["gpus"] * flags["nodes"]
    share = 1 / size if flags["strong"] else 1.0
    bfloat16 = config.message.precision == caffe_pb2.SolverParameter.BF16
    device = DEVICES[name]
    if torch.cuda.is_available() and not flags["step_ms"]:
        parts = size if flags["strong"] else 1
        team = Alone(0, parts)
        solver = Solver(config, device=torch.device("cuda", 0), team=team, splits_batches=parts > 1)
        step, net = measured_step(solver), solver.net
        alone_s, images = step.whole_s, batch_size(net) * parts
        solver.close()
        source = f"measured on one {torch.cuda.get_device_name(0)} of this machine"
    else:
        wanted = train_net(*config)
        net = build(build_graph(wanted.param, REGISTRY, file=wanted.file)).net
        images = _images(net)
        whole = estimated_step(net, device, bfloat16=bfloat16)
        step = estimated_step(net, device, bfloat16=bfloat16, share=share)
        alone_s = whole.whole_s
        shares = ", ".join(f"{share:.0%} for {kind}" for kind, share in SHARE_OF_PEAK.items())
        source = f"estimated from the peak figures of the {name.upper()} ({shares})"
        if flags["step_ms"]:
            factor = flags["step_ms"] / 1e3 / alone_s
            step, alone_s = _scaled(step, factor), flags["step_ms"] / 1e3
            source = f"--step_ms, and the layers' shares estimated as on a {name.upper()}"
    cluster = Cluster(
        flags["gpus"],
        flags["nodes"],
        Link(SHARE_OF_PEAK["link"] * device.link_s, LATENCY_S["inside"]),
        Link(SHARE_OF_PEAK["link"] * bytes_per_second(flags["bandwidth"]), LATENCY_S["between"]),
        Link(1e9, LATENCY_S["told"]),
        SHARE_OF_PEAK["memory"] * device.memory_s / UPDATE_PASSES,
    )
    found = forecast(step, cluster, alone_s=alone_s, share=share)
    return _plan_of(config, net, found, size, images, source, share)


def _plan_of(
    config: SolverConfig,
    net: Net,
    found: Forecast,
    processes: int,
    images: int,
    source: str,
    share: float,
) -> Plan:
    histories = rule_class(config.message).histories
    copies = 2 + histories + (processes > 1)  # values, gradients, and gradients that travel
    needed = copies * net.memory.parameters + 2 * share * net.memory.data
    hours = config.message.max_iter * found.step_s / 3600
    return Plan(processes, source, round(images * processes * share), found, needed, hours)


def _images(net: Net) -> int:
    """The length of the first blob that is no layer's top but data."""
    shapes = (net.blobs[p.node.tops[0]].shape for p in net.places if not p.node.bottoms)
    return next((shape[0] for shape in shapes if shape), 0)


def _scaled(step: Step, factor: float) -> Step:
    buckets = [Bucket(b.size, b.left_s * factor) for b in step.buckets]
    decided_s = None if step.decided_s is None else step.decided_s * factor
    return replace(step, whole_s=step.whole_s * factor, buckets=buckets, decided_s=decided_s)


def bytes_per_second(rate: str) -> float:
    """`400Gb`, `25GB/s`: a rate in bits (b) or bytes (B) a second, as bytes a second.

    Raises:
        UsageError: something else.
    """
    match = re.fullmatch(r"([\d.]+)\s*([kMGT]?)([bB])(?:it|its|ytes?)?(?:/s|ps)?", rate.strip())
    try:
        found = float(match[1]) * PREFIXES[match[2]] * UNITS[match[3]] if match else 0.0
    except ValueError:
        found = 0.0
    if not found:
        raise UsageError(
            f'--bandwidth "{rate}" is no rate.', advice="Give bits or bytes a second: 400Gb, 50GB."
        )
    return found


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms"
