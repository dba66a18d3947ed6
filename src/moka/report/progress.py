"""A progress bar for a long piece of work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def progress(
    what: str, total: int | None = None, *, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error if that is a terminal, and nothing otherwise.

    Args:
        what: stands before the bar, such as "images".
        total: how many there will be; None: unknown.
        in_bytes: the count is in bytes: show megabytes and the speed.

    Yields:
        A function to call with how many are done so far.
    """
    # Old versions of rich print an empty line for a disabled bar.
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done: None
        return
    counts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
