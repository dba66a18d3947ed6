"""`caffe train`: train or fine-tune a model."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import torch

from moka.cli.dry_run import dry_run
from moka.cli.net_table import net_table
from moka.cli.replay import replay
from moka.command import device
from moka.errors import UsageError
from moka.layers.source import Source
from moka.net import Net
from moka.report.caffe_log import log_record
from moka.report.json_lines import JsonLines
from moka.report.tensorboard import TensorBoard
from moka.report.terminal import TerminalReport
from moka.schema import caffe_pb2
from moka.solver.config import read_solver
from moka.solver.snapshots.snapshot import latest_state
from moka.solver.solver import Solver

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

EFFECTS = ("snapshot", "stop", "none")


def train(flags: dict[str, Any]) -> None:
    """Train by `-solver`, from `-weights` or `-snapshot` if given."""
    if not flags["solver"]:
        raise UsageError("Need a solver definition to train.", advice="Give --solver=FILE.")
    if flags["snapshot"] and flags["weights"]:
        raise UsageError("Give a snapshot to resume training or weights to finetune but not both.")
    if flags["replay"] and flags["dry_run"]:
        raise UsageError("Give --replay or --dry_run, not both.")
    for name in ("sigint_effect", "sighup_effect"):
        if flags[name] not in EFFECTS:
            raise UsageError(f'Invalid signal effect "{flags[name]}" was specified.',
                             advice=f"--{name} is one of {', '.join(EFFECTS)}.")  # fmt: skip
    config, _ = read_solver(flags["solver"])
    config.train_state.level = flags["level"]
    config.train_state.stage.extend(flags["stage"].split(","))
    if flags["weights"]:
        del config.weights[:]
        config.weights.append(flags["weights"])
    elif flags["snapshot"]:
        del config.weights[:]
    gpu_mode = config.solver_mode == caffe_pb2.SolverParameter.GPU
    where = device.use(flags["gpu"], wanted_id=config.device_id if gpu_mode else None)
    if flags["replay"]:
        replay(config, flags["solver"], flags["replay"], where)
    elif flags["dry_run"]:
        dry_run(config, flags["solver"], flags["snapshot"], where)
    else:
        _run(config, flags, where)


def _run(config: caffe_pb2.SolverParameter, flags: dict[str, Any], where: torch.device) -> None:
    state = flags["snapshot"]
    if config.random_seed < 0:
        torch.seed()
    solver = Solver(config, file=flags["solver"], device=where)
    with closing(solver), _reporting(solver, flags):
        if state == "auto":
            state = latest_state(solver.prefix)
            log.info("Found %s", state or f"no snapshot under {solver.prefix}: starting afresh")
        with _listening_to_signals(solver, flags):
            if state:
                log.info("Resuming from %s", state)
                solver.restore(state)
            log.info("Starting Optimization")
            solver.solve()
            detail.info("Optimization Done.")


@contextmanager
def _reporting(solver: Solver, flags: dict[str, Any]) -> Iterator[None]:
    """Give the solver its listeners: the log or the terminal, and the files that flags name."""
    images = batch_size(solver.net) * solver.config.iter_size
    with ExitStack() as listening:
        if sys.stderr.isatty() and not flags["quiet"]:
            report = listening.enter_context(closing(TerminalReport(images=images)))
            report.console.print(net_table(solver.net))
            solver.listeners.append(report)
        else:
            solver.listeners.append(log_record)
        if folder := flags["tensorboard"]:
            board = listening.enter_context(closing(TensorBoard(folder, images=images)))
            solver.listeners.append(board)
        if file := flags["json_log"]:
            solver.listeners.append(listening.enter_context(closing(JsonLines(file))))
        yield


def batch_size(net: Net) -> int:
    """How many images a pass takes: the length of the first top of the first data layer that has
    axes; 0 if there is none."""
    tops = (
        node.tops[0]
        for node, (_, layer) in zip(net.graph.nodes, net.named_layers(), strict=True)
        if isinstance(layer, Source) and node.tops
    )
    shapes = (net.blobs[top].shape for top in tops)
    return next((shape[0] for shape in shapes if shape), 0)


@contextmanager
def _listening_to_signals(solver: Solver, flags: dict[str, Any]) -> Iterator[None]:
    """SIGINT and SIGHUP ask the loop to stop or to save; it does so between two iterations."""

    def act(effect: str) -> Any:
        def handler(*_: Any) -> None:
            if effect == "stop":
                if solver.stop_requested:  # the second time: at once
                    raise KeyboardInterrupt
                solver.stop_requested = True
            elif effect == "snapshot":
                solver.snapshot_requested = True

        return handler

    effects = {signal.SIGINT: flags["sigint_effect"]}
    if hasattr(signal, "SIGHUP"):
        effects[signal.SIGHUP] = flags["sighup_effect"]
    before = {number: signal.signal(number, act(effect)) for number, effect in effects.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
