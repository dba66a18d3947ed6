"""What a training log tells beside its numbers: how far the run is, what it saved, how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_NUMBER = r"[-+]?[\d.]+(?:e[-+]?\d+)?|[-+]?inf|nan"
_SAVED = re.compile(r"Snapshotting (solver state )?to (?:(?:binary proto|HDF5) file )?(.+)")
_BEST = re.compile(rf"Best (.+?) so far: ({_NUMBER}) at iteration (\d{{1,18}}), kept in (.+)")
_STOPPING = re.compile(r"Stopping at iteration (\d{1,18}): \d+ tests without a better")
_MAX_ITER = re.compile(r"max_iter: (\d{1,18})\s*$")


@dataclass
class Saved:
    """A snapshot. Its state's name is empty as long as the log names the model alone."""

    iteration: int
    model_file: str
    state_file: str = ""


@dataclass
class Best:
    """The best test so far, by one output, and the model that was kept of it."""

    iteration: int
    output: str
    value: float
    model_file: str


@dataclass
class RunFacts:
    """All of a log so far. A file may hold several runs, one resuming another: how a run ended is
    forgotten when the next begins.

    Attributes:
        net, policy: as the log names them, "" before.
        max_iter: where the run ends; None: the log does not say.
        started_s: seconds since 1970 of the first line of the (first) run.
        last_s: seconds from there to the last line that was read.
        iteration: the last that is named.
        stopping: the iteration at which tests stopped to get better and the run ends early.
        ended: "" while it goes on, "done", or "early": before max_iter.
        error: what ended it, "" for nothing.
    """

    net: str = ""
    policy: str = ""
    max_iter: int | None = None
    started_s: float | None = None
    last_s: float = 0.0
    iteration: int | None = None
    saved: list[Saved] = field(default_factory=list)
    best: Best | None = None
    stopping: int | None = None
    ended: str = ""
    error: str = ""

    def begin(self, net: str) -> None:
        """A run begins, perhaps after another."""
        self.net, self.stopping, self.ended, self.error = net, None, "", ""

    def take_record(self, record: Mapping[str, Any]) -> None:
        """A record of `--json_log`. Raises KeyError if it lacks a field."""
        match record["record"]:
            case "SolvingStarted":
                self.begin(record["net"])
                self.policy, self.max_iter = record["lr_policy"], record["max_iter"]
            case "SnapshotWritten":
                files = record["model_file"], record["state_file"]
                self.saved.append(Saved(record["iteration"], *files))
            case "BestSnapshotWritten":
                names = ("iteration", "output", "value", "model_file")
                self.best = Best(*(record[name] for name in names))
            case "EarlyStop":
                self.stopping = record["iteration"]
            case "SolvingCompleted":
                self.ended = "early" if record["stopped_early"] else "done"
        if "iteration" in record:
            self.iteration = record["iteration"]

    def take_message(self, letter: str, message: str, iteration: int | None) -> None:
        """A line of a log in glog's form.

        Args:
            letter: its severity.
            iteration: the one that it names, None if it names none.
        """
        self.iteration = iteration if iteration is not None else self.iteration
        if message.startswith("Solving "):
            self.begin(message.removeprefix("Solving ").strip())
        elif message.startswith("Learning Rate Policy: "):
            self.policy = message.removeprefix("Learning Rate Policy: ").strip()
        elif saved := _SAVED.match(message):
            self._take_saved(saved[2].strip(), is_state=bool(saved[1]))
        elif best := _BEST.match(message):
            self.best = Best(int(best[3]), best[1], float(best[2]), best[4].strip())
        elif stopping := _STOPPING.match(message):
            self.stopping = int(stopping[1])
        elif message.startswith("Optimization Done"):
            self.ended = self.ended or "done"
        elif message.startswith(("Optimization stopped early", "Stopped at iteration ")):
            self.ended = "early"
        elif letter == "F":
            self.error = message

    def take_plain(self, line: str) -> None:
        """A line that is not glog's: those of the solver, which is printed as the run begins."""
        if found := _MAX_ITER.match(line):
            self.max_iter = int(found[1])

    def _take_saved(self, file: str, *, is_state: bool) -> None:
        if not is_state:
            self.saved.append(Saved(self.iteration or 0, file))
        elif self.saved:
            self.saved[-1].state_file = file
        number = re.search(r"_iter_(\d{1,18})\.", file)
        if number and self.saved:
            self.iteration = self.saved[-1].iteration = int(number[1])
