"""A run on a terminal: the loss as a chart, a progress bar, a row for each test and snapshot."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from moka.byte_text import readable
from moka.report.caffe_log import output_text
from moka.report.records import (
    BestSnapshotWritten,
    EarlyStop,
    IterationCompleted,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
)
from moka.report.text_chart import Curve, text_chart

CHART_HEIGHT = 8  # lines
CHART_NEEDS = 60, 20  # columns and lines of the terminal


class TerminalReport:
    """A listener that draws on a terminal (standard error, so that output can be piped).

    A narrow terminal shows no chart; a very narrow one shows only numbers.

    Args:
        images: how many images an iteration takes; 0: the speed is shown in iterations.
    """

    def __init__(self, console: Console | None = None, *, images: int = 0) -> None:
        self.console = console or Console(stderr=True)
        self._images = images
        self._progress = Progress(*_columns(self.console.width), console=self.console)
        self._task = self._progress.add_task("", total=None, status="", speed="", visible=False)
        self._losses = Curve()
        self._start = self._now = 0
        self._live = Live(console=self.console, get_renderable=self._picture, refresh_per_second=4)

    def __call__(self, record: Record) -> None:
        match record:
            case SolvingStarted():
                self._live.start()
                self._progress.update(
                    self._task,
                    description=readable(record.net),
                    total=record.max_iter,
                    completed=record.iteration,
                    visible=True,
                )
            case IterationCompleted():
                self._iteration(record)
            case TestCompleted():
                row = "  ".join(output_text(o) for o in record.outputs)
                self._say(f"iteration {record.iteration:6d}  test  {row}")
            case SnapshotWritten():
                self._say(f"iteration {record.iteration:6d}  saved {record.model_file}")
            case BestSnapshotWritten():
                self._say(
                    f"iteration {record.iteration:6d}  best {record.output} so far:"
                    f" {record.value:g}"
                )
            case EarlyStop():
                self._say(
                    f"iteration {record.iteration:6d}  no better {record.output} than"
                    f" {record.best:g} in {record.tests} tests: stopping"
                )
            case SolvingCompleted():
                self.close()
                how = "stopped" if record.stopped_early else "done"
                wait = record.waited_s / record.elapsed_s if record.elapsed_s else 0.0
                self._say(
                    f"{how} at iteration {record.iteration} after {record.elapsed_s:.1f} s"
                    f" ({wait:.1%} waiting for data)"
                )

    def _iteration(self, r: IterationCompleted) -> None:
        if not self._losses.points:
            self._start = r.iteration
        self._now = r.iteration
        self._losses.add(r.loss)
        self._progress.update(
            self._task,
            completed=r.iteration + 1,
            status=f"loss {r.loss:<8.4g} lr {r.rate:<8.3g}",
        )
        if r.displayed and r.lapse_s and r.lapse_iterations:
            iterations = r.lapse_iterations / r.lapse_s
            images = f"{iterations * self._images:,.0f} images/s"
            speed = images if self._images else f"{iterations:.3g} it/s"
            if r.slowest:
                rank, host, own_s, median_s = r.slowest
                speed += f", slowest {rank} on {host}"
                speed += f" ({own_s / median_s:.2f}x)" if median_s else ""
            self._progress.update(self._task, speed=speed)

    def _picture(self) -> RenderableType:
        """The bar, and above it the chart if there is room."""
        console, points = self.console, list(self._losses.points)
        fits = console.width >= CHART_NEEDS[0] and console.height >= CHART_NEEDS[1]
        if len(points) < 2 or not fits or not console.encoding.startswith("utf"):
            return self._progress
        width = min(console.width, 120) - 1
        lines = text_chart(points, width, CHART_HEIGHT)
        first, last = f"iteration {self._start}", f"{self._now}"
        margin = lines[0].index("┤")
        lines.append(" " * margin + f"└ {first}{last:>{width - margin - 2 - len(first)}}")
        return Group(Text(f"{'loss':>{margin + 1}}"), Text("\n".join(lines)), self._progress)

    def _say(self, text: str) -> None:
        self.console.print(readable(text), markup=False, highlight=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()


def _columns(width: int) -> list[ProgressColumn]:
    """The parts of the bar that a terminal of this width has room for."""
    name = TextColumn("{task.description}", style="bold", markup=False)
    status = TextColumn("{task.fields[status]}", markup=False)
    speed = TextColumn("{task.fields[speed]}", markup=False)
    if width < 60:
        return [MofNCompleteColumn(), status]
    if width < 100:
        return [MofNCompleteColumn(), status, speed, TimeRemainingColumn()]
    return [name, BarColumn(24), MofNCompleteColumn(), status, speed, TimeRemainingColumn()]
