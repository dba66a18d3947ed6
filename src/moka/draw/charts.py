"""Charts of training logs, drawn by matplotlib: the eight classic ones, and an overview."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

import numpy as np

from moka.draw.figures import COLORS, drawing
from moka.errors import UsageError, did_you_mean
from moka.report.readings import Reading, TrainingLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("-", "--", ":", "-.")
Points = list[tuple[Reading, float]]


@dataclass(frozen=True)
class Quantity:
    """A quantity that is drawn over iterations or seconds.

    Attributes:
        name: as in the titles of the charts.
        label: the label of the vertical axis.
        curves: returns its curves in a log by the output they belong to ("" if there is only one).
        log_from: from this ratio of the greatest to the least value on, the axis is logarithmic.
    """

    name: str
    label: str
    curves: Callable[[TrainingLog], dict[str, Points]]
    log_from: float = inf


def _outputs(readings: Sequence[Reading], *, losses: bool) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for reading in readings:
        for name, value in reading.outputs.items():
            if (name in reading.losses) is losses:
                found.setdefault(name, []).append((reading, value))
    return found


TEST_ACCURACY = Quantity(
    "Test accuracy", "test accuracy", lambda log: _outputs(log.tests, losses=False)
)
TEST_LOSS = Quantity(
    "Test loss", "test loss", lambda log: _outputs(log.tests, losses=True), log_from=30
)
LEARNING_RATE = Quantity(
    "Train learning rate",
    "learning rate",
    lambda log: {"": [(r, r.rate) for r in log.displays]},
    log_from=10,
)
TRAIN_LOSS = Quantity(
    "Train loss", "train loss", lambda log: {"": [(r, r.loss) for r in log.displays]}, log_from=30
)
QUANTITIES = (TEST_ACCURACY, TEST_LOSS, LEARNING_RATE, TRAIN_LOSS)
TITLES = [f"{q.name} vs. {over}" for q in QUANTITIES for over in ("Iters", "Seconds")]


def chart_type(text: str) -> int:
    """The number (0 to 7) of a chart.

    Args:
        text: the number itself, or the chart's title or its beginning, in any case, with blanks,
            dashes or underscores: `train-loss`, `test_accuracy_vs._seconds`.

    Raises:
        UsageError: there is no such chart.
    """
    words = " ".join(text.lower().replace("-", " ").replace("_", " ").split())
    for number, title in enumerate(TITLES):
        if text.strip() == str(number) or (words and title.lower().startswith(words)):
            return number
    known = "; ".join(f"{i} {title}" for i, title in enumerate(TITLES))
    raise UsageError(
        f"there is no chart '{text}', only: {known}.", advice=did_you_mean(words, TITLES)
    )


def draw(logs: Mapping[str, TrainingLog], kind: int | None = None) -> Figure:
    """Draw one or several logs.

    Args:
        logs: by their name in the legend.
        kind: one of the classic charts, 0 to 7 (`TITLES`); None: panels for loss, for accuracy if
            tests measure it, and for the learning rate.

    Raises:
        UsageError: matplotlib is missing, or no log holds anything to draw.
    """
    if kind is None:
        panels = [(TRAIN_LOSS, TEST_LOSS), (TEST_ACCURACY,), (LEARNING_RATE,)]
    else:
        panels = [(QUANTITIES[kind // 2],)]
    named = kind is not None or len(logs) > 1
    found = [(panel, list(_curves(panel, logs, named))) for panel in panels]
    found = [(panel, curves) for panel, curves in found if curves]
    if not found:
        what = "to draw" if kind is None else f"for '{TITLES[kind]}'"
        raise UsageError(f"there is nothing {what} in {', '.join(logs)}.")
    by_time = kind is not None and kind % 2 == 1
    height = 4.0 if len(found) == 1 else 1.2 + 2.4 * len(found)
    with drawing(7.0, height) as figure:
        axes = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
        unit = _time_unit([c for _, curves in found for c in curves]) if by_time else None
        for ax, (panel, curves) in zip(axes, found, strict=True):
            _draw_panel(ax, panel, curves, unit)
        axes[-1].set_xlabel(f"time ({unit[0]})" if unit else "iteration")
        axes[0].set_title(", ".join(logs) if kind is None and len(logs) == 1 else "")
    return figure


@dataclass(frozen=True)
class _Curve:
    label: str
    quantity: Quantity
    points: Points
    color: str
    line: str  # the style: "-", "--", ...


def _curves(
    panel: Sequence[Quantity], logs: Mapping[str, TrainingLog], named: bool
) -> Iterator[_Curve]:
    """A panel's curves. One log has a color for each curve; several logs have a color for each log
    and a style of line for each curve in it.

    Args:
        named: whether labels begin with the log's name.
    """
    for index, (log_name, log) in enumerate(logs.items()):
        drawn = [
            (quantity, output, points)
            for quantity in panel
            for output, points in quantity.curves(log).items()
            if any(isfinite(value) for _, value in points)
        ]
        for i, (quantity, output, points) in enumerate(drawn):
            others = [q for q, _, _ in drawn if q is quantity]
            words = [log_name] if named else []
            words += [quantity.name.split()[0].lower()] if len(panel) > 1 else []
            words += [output] if len(others) > 1 else []
            color, line = (i, 0) if len(logs) == 1 else (index, i)
            yield _Curve(
                " ".join(words),
                quantity,
                points,
                COLORS[color % len(COLORS)],
                LINES[line % len(LINES)],
            )


def _draw_panel(
    ax: Axes, panel: Sequence[Quantity], curves: Sequence[_Curve], unit: tuple[str, float] | None
) -> None:
    """Draw curves on one pair of axes.

    Args:
        unit: the name of the unit of time and its seconds; None: over iterations.
    """
    for curve in curves:
        xs = [r.seconds / unit[1] if unit else r.iteration for r, _ in curve.points]
        ys = [value for _, value in curve.points]
        marker = "o" if len(xs) <= 40 else ""
        if len(xs) > 100 and curve.quantity is TRAIN_LOSS:
            ax.plot(xs, ys, color=curve.color, linewidth=0.6, alpha=0.35)
            ys = running_mean(ys, len(ys) // 50)
        (line,) = ax.plot(xs, ys, color=curve.color, linestyle=curve.line, label=curve.label)
        line.set(linewidth=1.5, marker=marker, markersize=3)
    values = [v for curve in curves for _, v in curve.points if isfinite(v)]
    if min(values) > 0 and max(values) >= panel[0].log_from * min(values):
        ax.set_yscale("log")
    ax.set_ylabel(panel[0].label if len(panel) == 1 else "loss")
    if any(curve.label for curve in curves):
        ax.legend()


def running_mean(values: Sequence[float], reach: int) -> list[float]:
    """The mean of each value and up to `reach` neighbors on either side.

    A value near either end has as many neighbors after it as before it, so that a steep beginning
    stays steep. Values that are not finite do not count.
    """
    kept = np.isfinite(values)
    sums = np.cumsum([0.0, *np.where(kept, values, 0.0)])
    counts = np.cumsum([0, *kept])
    here = np.arange(len(values))
    near = np.minimum(reach, here)
    start, stop = here - near, np.minimum(here + near + 1, len(values))
    count = counts[stop] - counts[start]
    means = (sums[stop] - sums[start]) / np.maximum(count, 1)
    return np.where(count, means, nan).tolist()


def _time_unit(curves: Sequence[_Curve]) -> tuple[str, float]:
    """The unit of time that suits the curves: its name and its seconds."""
    longest = max(r.seconds for curve in curves for r, _ in curve.points)
    return ("h", 3600.0) if longest > 7200 else ("min", 60.0) if longest > 300 else ("s", 1.0)
