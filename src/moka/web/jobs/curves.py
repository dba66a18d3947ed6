"""The curves of a run, and how few points show them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.report.readings import Reading

Numbers = NDArray[np.float64]


@dataclass
class Series:
    """One number of a run, as it changed.

    Attributes:
        name: "loss" and "rate" of the training; "train:NAME" and "test:NAME" of an output.
        kind: "loss", "output" or "rate".
        iterations, seconds, values: alike long; seconds count from the start of the log.
    """

    name: str
    kind: str
    iterations: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    @property
    def is_noisy(self) -> bool:
        """Whether its numbers are those of single batches: a test's are means, a rate is exact."""
        return self.kind != "rate" and not self.name.startswith("test:")

    def add(self, iteration: int, seconds: float, value: float) -> None:
        """Another point. A run that has gone back to a snapshot leaves what came after it."""
        while self.iterations and self.iterations[-1] >= iteration:
            for column in (self.iterations, self.seconds, self.values):
                column.pop()
        self.iterations.append(iteration)
        self.seconds.append(seconds)
        self.values.append(value)


class Curves(dict[str, Series]):
    """All series of a run, by name."""

    def add(self, displays: Iterable[Reading], tests: Iterable[Reading]) -> None:
        """Further readings of the log."""
        for reading in displays:
            self._point("loss", "loss", reading, reading.loss)
            self._point("rate", "rate", reading, reading.rate)
            self._outputs("train", reading)
        for reading in tests:
            self._outputs("test", reading)

    def last(self, name: str) -> float | None:
        """The last number of a series that is one; None if there is none."""
        values = self[name].values if name in self else ()
        return next((v for v in reversed(values) if isfinite(v)), None)

    def _outputs(self, phase: str, reading: Reading) -> None:
        for name, value in reading.outputs.items():
            kind = "loss" if name in reading.losses else "output"
            self._point(f"{phase}:{name}", kind, reading, value)

    def _point(self, name: str, kind: str, reading: Reading, value: float) -> None:
        if name in ("loss", "rate") and not isfinite(value) and name not in self:
            return  # a log without losses or rates has no such curve
        if name not in self:
            self[name] = Series(name, kind)
        self[name].add(reading.iteration, reading.seconds, value)


def smoothed(values: Numbers, weight: float) -> Numbers:
    """The exponential mean of each number and those before it, without a bias to its start:

        m_t = sum_k weight^k v_(t-k) / sum_k weight^k

    Numbers that are not finite stay as they are and count nothing.

    Args:
        weight: of the number before, 0 (no smoothing) to below 1.
    """
    if not weight:
        return values
    known = np.isfinite(values)
    sums = np.fromiter(accumulate(values[known], lambda s, v: s * weight + v), np.float64)
    out = values.copy()
    out[known] = sums * (1 - weight) / (1 - weight ** np.arange(1, len(sums) + 1, dtype=float))
    return out


def reduced(series: Series, points: int, weight: float = 0.0) -> dict[str, Any]:
    """A series in at most `points` points, as columns.

    More numbers than that are told in groups that follow each other: at the place of the last of
    each, `y` is the mean of the group (with smoothing: its last smoothed number), and `low` and
    `high` are its least and greatest number.

    Returns:
        iterations, seconds, y, low, high; low and high are empty where y says it all.
    """
    x, seconds = np.array(series.iterations), np.array(series.seconds)
    raw = np.array(series.values, np.float64)
    line = smoothed(raw, weight)
    if len(raw) <= points:
        around = [raw.tolist()] * 2 if weight else [[], []]
        return _columns(x, seconds, line, *around)
    edges = np.linspace(0, len(raw), points + 1).astype(np.int64)
    first, last = edges[:-1], edges[1:] - 1
    low, high = np.fmin.reduceat(raw, first), np.fmax.reduceat(raw, first)
    if not weight:
        known = np.isfinite(raw)
        sums, counts = (
            np.add.reduceat(a, first) for a in (np.where(known, raw, 0.0), known.astype(float))
        )
        line = np.divide(sums, counts, out=np.full(points, np.nan), where=counts > 0)
    else:
        line = line[last]
    return _columns(x[last], seconds[last], line, low.tolist(), high.tolist())


def _columns(
    x: Numbers, seconds: Numbers, y: Numbers, low: list[float], high: list[float]
) -> dict[str, Any]:
    return {
        "iterations": x.astype(np.int64).tolist(),
        "seconds": np.round(seconds, 3).tolist(),
        "y": y.tolist(),
        "low": low,
        "high": high,
    }
