"""A run on a terminal: a progress bar, a row for each test and snapshot."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

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


class TerminalReport:
    """A listener that draws on a terminal (standard error, so that output can be piped)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._progress.add_task("", total=None, status="", visible=False)
        self._speed = ""

    def __call__(self, record: Record) -> None:
        match record:
            case SolvingStarted():
                self._progress.start()
                self._progress.update(
                    self._task,
                    description=record.net,
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
        if r.displayed and r.lapse_s and r.lapse_iterations:
            self._speed = f"  {r.lapse_iterations / r.lapse_s:.0f} it/s"
        self._progress.update(
            self._task,
            completed=r.iteration + 1,
            status=f"loss {r.loss:<8.4g} lr {r.rate:<8.3g}{self._speed}",
        )

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()
