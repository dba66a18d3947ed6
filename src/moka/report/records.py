"""What happened in a run, as plain records. Log lines, bars and charts are renderings of these.

Units are in the names: `_s` seconds, `_bytes` bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """One number of a net's output.

    Attributes:
        name: the blob.
        value: as it came out, or its mean over the batches of a test.
        loss_weight: 0 if it is no loss.
    """

    name: str
    value: float
    loss_weight: float


@dataclass(frozen=True)
class SolvingStarted:
    net: str
    lr_policy: str
    iteration: int
    max_iter: int


@dataclass(frozen=True)
class IterationCompleted:
    """One iteration, after its update.

    Attributes:
        loss: averaged over the last `average_loss` iterations.
        displayed: whether `display` is due; only then are `outputs` given.
        lapse_s: since the last displayed iteration, `lapse_iterations` ago.
        stage: the stage multistep has just reached, None if it did not change.
        plateau: the stage lr_policy plateau has just reached, likewise.
        clipped: the gradients' norm and its limit, None if they were not clipped.
        waited_s: for data, in this iteration.
        slowest: of several processes, if it is displayed, the one whose own work took longest since
            the last display: its rank, its machine's name, its seconds an iteration and the
            median of all processes.
    """

    iteration: int
    loss: float
    rate: float
    displayed: bool = False
    outputs: tuple[Output, ...] = ()
    lapse_s: float = 0.0
    lapse_iterations: int = 0
    display_every: int = 0
    stage: int | None = None
    plateau: int | None = None
    clipped: tuple[float, float] | None = None
    waited_s: float = 0.0
    slowest: tuple[int, str, float, float] | None = None


@dataclass(frozen=True)
class TestStarted:
    __test__ = False
    iteration: int
    net_index: int


@dataclass(frozen=True)
class ClassesTested:
    """The average precision of each class, by label, of which an output of a test is the mean."""

    iteration: int
    net_index: int
    output: str
    precisions: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class TestCompleted:
    """A test net's outputs, averaged over its batches; `loss` only if it was asked for."""

    __test__ = False
    iteration: int
    net_index: int
    outputs: tuple[Output, ...]
    loss: float | None


@dataclass(frozen=True)
class SnapshotWritten:
    """A snapshot is complete; `averaged_file` only if averaged weights are kept."""

    iteration: int
    model_file: str
    state_file: str
    averaged_file: str | None = None


@dataclass(frozen=True)
class BestSnapshotWritten:
    """A test was the best so far, and its snapshot is complete.

    Attributes:
        output, value: the test net's output that says so.
    """

    iteration: int
    output: str
    value: float
    model_file: str


@dataclass(frozen=True)
class EarlyStop:
    """The run stops: `tests` in a row were no better than the best.

    Attributes:
        output, best, best_iteration: what they were compared with.
    """

    iteration: int
    tests: int
    output: str
    best: float
    best_iteration: int


@dataclass(frozen=True)
class FinalLoss:
    """The loss of one more pass after the last update, smoothed; made if `display` is due."""

    iteration: int
    loss: float


@dataclass(frozen=True)
class SolvingCompleted:
    """The end of a run.

    Attributes:
        elapsed_s, waited_s: the whole run, and how much of it was waiting for data.
    """

    iteration: int
    stopped_early: bool
    elapsed_s: float
    waited_s: float


Record = (
    SolvingStarted
    | IterationCompleted
    | TestStarted
    | ClassesTested
    | TestCompleted
    | SnapshotWritten
    | BestSnapshotWritten
    | EarlyStop
    | FinalLoss
    | SolvingCompleted
)
Listener = Callable[[Record], object]
