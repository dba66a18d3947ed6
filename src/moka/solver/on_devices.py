"""Training on several devices from a program: a process for each, and the result in this one."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from moka.errors import MokaError, SolverError, UsageError
from moka.net.batch_size import batch_size
from moka.parallel.launch import launch
from moka.parallel.launched import Launched
from moka.parallel.team import TeamLostError
from moka.report.glog import log_to_stderr
from moka.report.records import Listener
from moka.report.relay import Address, ListenerGoneError, Relay, Sender
from moka.report.run import show_run
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.config import SolverConfig
from moka.solver.resume import state_to_resume
from moka.solver.snapshots.names import file_names
from moka.solver.solver import Solver

PATIENCE_S = 300.0  # for other processes to come, and for a sign of life of one


def as_devices(devices: Sequence[int | str | torch.device]) -> list[torch.device]:
    """The devices of numbers of GPUs and names.

    Raises:
        UsageError: something else, a GPU that is not there, or that is named twice.
    """
    count = torch.cuda.device_count()
    found: list[torch.device] = []
    for given in devices:
        try:
            device = torch.device(f"cuda:{given}" if isinstance(given, int) else given)
        except (RuntimeError, TypeError):
            raise UsageError(
                f"devices are numbers of GPUs and names like cpu and cuda:1; found {given!r}."
            ) from None
        if device.type == "cuda":
            device = torch.device("cuda", device.index or 0)
            if device.index >= count:
                raise UsageError(f"there is no GPU {device.index}: {count} found.")
            if device in found:
                raise UsageError(f"GPU {device.index} is named twice.")
        found.append(device)
    return found


def train_on_several(
    config: SolverConfig,
    devices: Sequence[int | str | torch.device],
    *,
    listeners: Sequence[Listener],
    resume: str | None,
    max_restarts: int,
    progress: bool,
) -> Solver:
    """Train by a solver to its end, on several devices; see `moka.train`.

    Raises:
        MokaError: what stopped the training, from whichever process.
    """
    names = [str(device) for device in as_devices(devices)]
    message = config.message.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        result = str(Path(folder) / "result")
        with ExitStack() as stack:
            relay = stack.enter_context(Relay(listeners)) if listeners else None
            address = relay.address if relay else None
            args = (message, str(config.file), resume or "", names, result, progress, address)
            answers = launch(_train, args, len(names), max_restarts=max_restarts)
        said = [answer for _, answer in sorted(answers.items()) if isinstance(answer, str)]
        if said:
            raise SolverError(said[0])
        made = Solver(config, device=torch.device(names[0]))
        made.restore(file_names(result, answers[0])[1])
    return made


def _train(
    message: bytes,
    file: str,
    resume: str,
    devices: list[str],
    result: str,
    progress: bool,
    hearer: Address | None,
) -> int | str:
    """The work of one process; returns the iteration that it has reached, or an error's text."""
    launched = Launched.from_environment()
    assert launched is not None
    config = SolverConfig(SolverParameter.FromString(message), file)
    device = torch.device(devices[launched.local_rank])
    try:
        return _solve(launched, config, device, resume, result, progress=progress, hearer=hearer)
    except TeamLostError as error:
        raise SystemExit(error.exit_code) from None
    except (MokaError, ListenerGoneError) as error:
        return str(error)


def _solve(
    launched: Launched,
    config: SolverConfig,
    device: torch.device,
    resume: str,
    result: str,
    *,
    progress: bool,
    hearer: Address | None,
) -> int:
    """Train with the other processes; the first one leaves its state under the prefix `result`."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else memory of the host is pinned for GPU 0 in each process
    on_terminal = sys.stderr.isatty()
    shows = progress and not launched.rank
    with ExitStack() as stack:
        if shows:
            stack.enter_context(log_to_stderr(plain=on_terminal))
        team, run = stack.enter_context(launched.joined(device, PATIENCE_S))
        solver = stack.enter_context(closing(Solver(config, device=device, team=team)))
        state = state_to_resume(solver, resume, run)
        if shows:
            images = batch_size(solver.net) * solver.config.iter_size * team.size
            stack.enter_context(show_run(solver.listeners, images, on_terminal))
        if hearer and team.is_first:
            solver.listeners.append(stack.enter_context(closing(Sender(hearer))))
        solver.solve(state)
        if team.is_first or solver.config.shard:
            solver.listeners.clear()
            solver.config.snapshot_prefix = result
            solver.config.snapshot_format = SolverParameter.BINARYPROTO
            solver.config.snapshot_keep = 0
            solver.snapshot()
        return solver.iteration
