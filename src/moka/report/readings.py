"""The numbers in a training log."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan


@dataclass
class Reading:
    """The numbers of one display of the training, or of one test.

    Attributes:
        seconds: from the start of the (first) run to its first output.
        rate_before: the last learning rate named before its outputs; nan: none.
        rate: the learning rate of the iteration itself; nan in a test, and if it is not named.
        loss: of training, averaged over `average_loss` iterations; nan in a test.
        outputs: by name. A repeated name, in a vector or in another test net, becomes `name.1`,
            `name.2`.
        losses: names of the outputs that are losses: with a loss weight, or by their name.
    """

    iteration: int
    seconds: float
    rate_before: float
    rate: float = nan
    loss: float = nan
    outputs: dict[str, float] = field(default_factory=dict)
    losses: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class TrainingLog:
    """All of a log, in its order; a file may hold several runs, one resuming another."""

    displays: list[Reading]
    tests: list[Reading]
