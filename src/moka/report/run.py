"""A run shown on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from moka.report.caffe_log import log_record
from moka.report.records import Listener
from moka.report.terminal import TerminalReport


@contextmanager
def show_run(
    listeners: list[Listener], images: int, on_terminal: bool
) -> Iterator[TerminalReport | None]:
    """Add listeners that show a run: Caffe's lines in the log; on a terminal a chart, a bar and
    rows instead of those lines.

    Args:
        images: how many images an iteration takes; 0: the speed is shown in iterations.

    Yields:
        What draws on the terminal, if there is one.
    """
    listeners.append(log_record)
    if not on_terminal:
        yield None
        return
    with closing(TerminalReport(images=images)) as report:
        listeners.append(report)
        yield report
