"""`caffe train --dry_run`: what a run would do and need, and everything that would stop it."""

from __future__ import annotations

import logging

import torch

from moka.checks.layer_table import net_table, table_console
from moka.checks.runs import (
    count_tests,
    expected_s,
    history_bytes,
    measure_run,
    problems_of,
    snapshot_bytes,
    writing_layer,
)
from moka.errors import MokaError, SolverError
from moka.schema import caffe_pb2
from moka.solver.config import SolverConfig
from moka.solver.solver import Solver

log = logging.getLogger("moka")


def dry_run(config: SolverConfig, state: str, where: torch.device) -> None:
    """Print nets, memory and time to standard output.

    Raises:
        SolverError: the run would fail; each problem has been logged.
    """
    problems, solver = problems_of(config, state, where)
    if solver is not None:
        try:
            _print_nets(solver)
            print(memory_text(solver))
            if not problems:
                print(time_text(config.message, solver))
        except MokaError as error:
            problems.append(str(error))
        finally:
            solver.close()
    for problem in problems:
        log.error(problem)
    if problems:
        count = "A problem was" if len(problems) == 1 else f"{len(problems)} problems were"
        raise SolverError(f"{count} found: this run would fail.", file=config.file)
    print("No problem was found. Nothing has been written.")


def _print_nets(solver: Solver) -> None:
    console = table_console()
    for net in (solver.net, *solver.test_nets):
        console.print(net_table(net))


def memory_text(solver: Solver) -> str:
    """The memory that training needs, and the disk space of a snapshot."""
    memory = solver.net.memory
    rows = [
        ("parameters", memory.parameters),
        ("their gradients", memory.parameters),
        (f"histories of {solver.config.type}", history_bytes(solver)),
        ("blobs in training", memory.data),
        ("their gradients, at most", memory.data),
        *((f"blobs of test net #{i}", n.memory.peak) for i, n in enumerate(solver.test_nets)),
    ]
    lines = [f"  {name:28} {bytes_text(size):>12}" for name, size in rows]
    snapshot = f"A snapshot takes {bytes_text(snapshot_bytes(solver))} on the disk."
    return "\n".join(["Memory:", *lines, snapshot])


def bytes_text(size: float) -> str:
    """`1.7 MB`: bytes in steps of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.2f} GB"


def time_text(config: caffe_pb2.SolverParameter, solver: Solver) -> str:
    """How long the run will take, and how that was estimated."""
    if name := writing_layer(solver):
        return f'Time: not estimated, for layer "{name}" writes a file when it runs.'
    first = solver.iteration
    timing = measure_run(solver)
    total = expected_s(config, timing, first)
    text = (
        f"Time: about {_duration(total)}: {max(0, config.max_iter - first)} iterations of"
        f" {timing.iteration_s * 1e3:.3g} ms"
    )
    if tests := count_tests(config, first, config.max_iter):
        nets = ", ".join(
            f"{n} batches of {s * 1e3:.3g} ms"
            for n, s in zip(config.test_iter, timing.test_batch_s, strict=True)
        )
        text += f" and {tests} tests of {nets}"
    return (
        f"{text} (medians of {timing.timed} on the first data, after one that did not count;"
        " without snapshots)."
    )


def _duration(seconds: float) -> str:
    """`1 h 20 min`, `20 min 5 s`, `2.5 s`."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
