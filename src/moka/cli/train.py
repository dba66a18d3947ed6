"""`caffe train`: train or fine-tune a model."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from threading import Event
from typing import Any

import torch

from moka.checks.layer_table import net_table
from moka.cli.dry_run import dry_run
from moka.cli.replay import replay
from moka.command import device, engine
from moka.command.actions import COMPRESSIONS, EFFECTS, TRAIN
from moka.command.processes import Noted, in_processes
from moka.command.table import flags_of
from moka.engine.segments import best_ends
from moka.errors import UsageError
from moka.inference.engines import may_record
from moka.net.batch_size import batch_size
from moka.parallel.launched import Run
from moka.parallel.team import REQUEUE, Team
from moka.report.json_lines import JsonLines
from moka.report.records import Record, SnapshotWritten
from moka.report.run import show_run
from moka.report.tensorboard import TensorBoard
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.config import SolverConfig, read_solver
from moka.solver.resume import state_to_resume
from moka.solver.solver import Solver
from moka.types import PathLike

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

SAVING_S = 3600  # after SIGTERM; a cluster's own limit is shorter


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
    if flags["compress"] not in ("", *COMPRESSIONS):
        raise UsageError(f'--compress is {", ".join(COMPRESSIONS)}, not "{flags["compress"]}".')
    config = read_solver(flags["solver"])
    message = config.message
    message.train_state.level = flags["level"]
    message.train_state.stage.extend(flags["stage"].split(","))
    for name in ("sync_bn", "shard"):
        if flags[name]:  # the log shows what is set, and Caffe does not know these
            setattr(message, name, True)
    if flags["compress"]:
        message.compress = getattr(message, COMPRESSIONS[flags["compress"]])
    if flags["weights"]:
        del message.weights[:]
        message.weights.append(flags["weights"])
    elif flags["snapshot"]:
        del message.weights[:]
    gpu_mode = message.solver_mode == SolverParameter.GPU
    wanted_id = message.device_id if gpu_mode else None
    if flags["replay"]:
        replay(config, flags["replay"], device.use(flags["gpu"], wanted_id=wanted_id))
    elif flags["dry_run"]:
        dry_run(config, flags["snapshot"], device.use(flags["gpu"], wanted_id=wanted_id))
    else:
        work = partial(_run, config, flags)
        known = flags_of(TRAIN)
        in_processes(TRAIN, known, (), flags, work, wanted_id=wanted_id, grace_s=SAVING_S)


def _run(
    config: SolverConfig, flags: dict[str, Any], team: Team, where: torch.device, run: Run | None
) -> None:
    if config.message.random_seed < 0:
        torch.seed()
    engine.use(flags["engine"])
    message = config.message
    if flags["half"] and where.type == "cuda" and not message.HasField("precision"):
        in_one = team.size == 1  # several processes have no common scale of the loss
        message.precision = SolverParameter.FP16 if in_one else SolverParameter.BF16
    solver = Solver(
        config,
        device=where,
        team=team,
        splits_batches=flags["strong"],
        records=may_record(),
    )
    if flags["recompute"]:
        solver.engine.segment_ends = best_ends(solver.net)
    with closing(solver), _reporting(solver, flags), _saying_how_to_resume(solver) as stop:
        state = state_to_resume(solver, flags["snapshot"], run)
        with _listening_to_signals(solver, flags, stop):
            if state:
                log.info("Resuming from %s", state)
                solver.restore(state)
            log.info("Starting Optimization")
            solver.solve()
            detail.info("Optimization Done.")
        if solver.requests.requeue:
            raise SystemExit(REQUEUE)


@contextmanager
def _reporting(solver: Solver, flags: dict[str, Any]) -> Iterator[None]:
    """Give the solver its listeners: the log, the terminal, and the files that flags name."""
    images = batch_size(solver.net) * solver.config.iter_size * solver.team.size
    on_terminal = sys.stderr.isatty() and not flags["quiet"] and solver.team.is_first
    with ExitStack() as listening:
        report = listening.enter_context(show_run(solver.listeners, images, on_terminal))
        if report is not None:
            report.console.print(net_table(solver.net))
        if (folder := flags["tensorboard"]) and solver.team.is_first:
            board = listening.enter_context(closing(TensorBoard(folder, images=images)))
            solver.listeners.append(board)
        if (file := flags["json_log"]) and solver.team.is_first:
            solver.listeners.append(listening.enter_context(closing(JsonLines(file))))
        yield


@contextmanager
def _saying_how_to_resume(solver: Solver) -> Iterator[Event]:
    """After a signal has stopped the run, say how to resume it.

    Yields:
        What a signal's handler sets.
    """
    written: list[str] = []
    stop = Event()

    def note(record: Record) -> None:
        if isinstance(record, SnapshotWritten):
            written.append(record.state_file)

    solver.listeners.append(note)
    try:
        yield stop
    finally:
        if stop.is_set() or solver.requests.requeue:
            log.info(how_to_resume(solver.file, solver.iteration, written))


def how_to_resume(solver_file: PathLike, iteration: int, snapshots: Sequence[str]) -> str:
    """The sentence that ends an interrupted run.

    Args:
        snapshots: state files of this run; the last one is the newest.
    """
    if not snapshots:
        return f"Stopped at iteration {iteration}; this run has written no snapshot to go on from."
    files = [_quoted(str(name)) for name in (solver_file, snapshots[-1])]
    return (
        f"Stopped at iteration {iteration}. To go on: "
        + "caffe train --solver={} --snapshot={}".format(*files)
    )


def _quoted(name: str) -> str:
    """A name as a word of a shell."""
    return subprocess.list2cmdline([name]) if os.name == "nt" else shlex.quote(name)


@contextmanager
def _listening_to_signals(solver: Solver, flags: dict[str, Any], stop: Event) -> Iterator[None]:
    """SIGINT and SIGHUP ask the loop to stop or to save, SIGTERM to do both; it does so between two
    iterations. A SIGTERM that came before counts."""

    def act(effect: str) -> Any:
        def handler(*_: Any) -> None:
            if effect == "stop":
                if stop.is_set():  # the second time: at once
                    raise KeyboardInterrupt
                stop.set()
                solver.requests.stop = True
            elif effect == "snapshot":
                solver.requests.save = True

        return handler

    effects = {signal.SIGINT: flags["sigint_effect"]}
    if hasattr(signal, "SIGHUP"):
        effects[signal.SIGHUP] = flags["sighup_effect"]
    handlers = {number: act(effect) for number, effect in effects.items()}

    def requeue(*_: Any) -> None:
        stop.set()
        solver.requests.requeue = True

    handlers[signal.SIGTERM] = requeue
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    if isinstance(earlier := before[signal.SIGTERM], Noted) and earlier.has_come:
        requeue()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
