"""A command's work in several processes: one for each GPU of `--gpu 0,1`, or `--workers`.

The process that the user starts launches the same command several times and waits. Each of those
joins the others by the environment that its launcher, or torchrun, has set.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from moka.command import device
from moka.command.commands import Command
from moka.command.flags import Flag
from moka.errors import UsageError
from moka.parallel.launch import GRACE_S, launch_this_program
from moka.parallel.launched import Launched, Run
from moka.parallel.team import Alone, Team
from moka.report.glog import show_only

Work = Callable[[Team, torch.device, Run | None], object]


def in_processes(
    command: Command,
    known: Mapping[str, Flag],
    words: Sequence[str],
    flags: Mapping[str, Any],
    work: Work,
    *,
    wanted_id: int | None = None,
    grace_s: int = GRACE_S,
) -> None:
    """Do the work of a command in this process, or in several that are started for it.

    Args:
        command: the command; it is run again in each process.
        known: all its flags, by name.
        words, flags: what it was called with.
        work: called with the team, the device and, in one process of several, what the run keeps
            while its processes are started again.
        wanted_id: as for `device.use`.
        grace_s: how long several processes may take to end after SIGTERM, in seconds.

    Raises:
        UsageError: GPUs that are not there, or numbers out of range.
        SystemExit: other processes ended with an error, and have said so.
    """
    _check(flags)
    launched = Launched.from_environment()
    if launched is not None and launched.size > 1:
        _work_with_others(launched, flags, work, wanted_id)
        return
    count = _count(flags)
    if launched is not None and count <= 1:
        _work_with_others(launched, flags, work, wanted_id)
    elif count > 1:
        given = [
            f"--{name}={_text(flags[name])}" for name in known if _is_given(known[name], flags)
        ]
        again = [command.name, *words, *given]
        launch_this_program(again, count, max_restarts=flags["max_restarts"], grace_s=grace_s)
    else:
        where = device.use(flags["gpu"], wanted_id=None if flags["workers"] else wanted_id)
        work(Alone(), where, None)


def process_count(flags: Mapping[str, Any]) -> int:
    """How many processes `--workers` or `--gpu` ask for; 1 if they ask for none.

    Raises:
        UsageError: both are given, a number out of range, a GPU that is not there.
    """
    _check(flags)
    return _count(flags)


def _count(flags: Mapping[str, Any]) -> int:
    return flags["workers"] or max(1, len(device.gpu_ids(flags["gpu"])))


def _check(flags: Mapping[str, Any]) -> None:
    if flags["workers"] and flags["gpu"]:
        raise UsageError("--workers is for processes on the CPU: give it or --gpu, not both.")
    for name, least in (("workers", 0), ("max_restarts", 0), ("patience", 1)):
        if flags[name] < least:
            raise UsageError(f"--{name} must be >= {least}, got {flags[name]:g}.")


def _work_with_others(
    launched: Launched, flags: Mapping[str, Any], work: Work, wanted_id: int | None
) -> None:
    if launched.rank:
        show_only("moka.team")
    on_gpu = torch.cuda.is_available() and not flags["workers"]
    first = torch.device("cuda", launched.local_rank) if on_gpu else torch.device("cpu")
    with launched.joined(first, flags["patience"]) as (team, run), _noting_sigterm():
        gpus = device.gpu_ids(flags["gpu"])
        if not gpus and wanted_id is not None and on_gpu:
            gpus = list(range(torch.cuda.device_count()))
        if gpus and launched.local_rank >= len(gpus):
            raise UsageError(
                f"process {launched.local_rank} of this machine has no GPU: {len(gpus)} can be"
                " used.",
                advice="Start one process for each GPU.",
            )
        own = str(gpus[launched.local_rank]) if gpus else ""
        work(team, device.use(own), run)


class Noted:
    """The handler of a signal that is looked at later.

    Attributes:
        has_come: whether it has come.
    """

    has_come = False

    def __call__(self, *_: object) -> None:
        self.has_come = True


@contextmanager
def _noting_sigterm() -> Iterator[None]:
    """Live on after SIGTERM until the work listens to it: the launcher sends it when another
    process has failed, and the first one tells why."""
    before = signal.signal(signal.SIGTERM, Noted())
    try:
        yield
    except BaseException:
        raise  # the launcher still sends it
    signal.signal(signal.SIGTERM, before)


def _is_given(flag: Flag, flags: Mapping[str, Any]) -> bool:
    return flag.name != "flagfile" and flags[flag.name] != flag.default


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
