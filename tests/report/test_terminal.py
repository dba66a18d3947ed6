from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from moka.report.records import (
    FinalLoss,
    IterationCompleted,
    Output,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
    TestStarted,
)
from moka.report.terminal import TerminalReport

CODES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Screen:
    """A terminal of 120 columns that remembers what was written to it."""

    def __init__(self) -> None:
        self.file = StringIO()
        self.console = Console(file=self.file, force_terminal=True, width=120)

    @property
    def text(self) -> str:
        return CODES.sub("", self.file.getvalue())


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def report(screen: Screen) -> Iterator[TerminalReport]:
    made = TerminalReport(screen.console)
    made(SolvingStarted("LeNet", "fixed", 20, 1000))
    yield made
    made.close()


def test_the_bar_starts_where_the_run_does(report: TerminalReport, screen: Screen) -> None:
    report.close()
    assert "LeNet" in screen.text
    assert re.search(r"\b20/1000", screen.text)


def test_the_bar_moves_with_the_iterations(report: TerminalReport, screen: Screen) -> None:
    report(
        IterationCompleted(499, 0.12345678, 0.01, displayed=True, lapse_s=0.5, lapse_iterations=100)
    )
    report.close()
    last = screen.text.splitlines()[-1]
    for part in ("500/1000", "loss 0.1235", "lr 0.01", "200 it/s"):
        assert part in last


def test_a_speed_stays_until_the_next(report: TerminalReport, screen: Screen) -> None:
    report(IterationCompleted(99, 1.0, 0.1, displayed=True, lapse_s=0.5, lapse_iterations=100))
    report(IterationCompleted(100, 1.0, 0.1))
    report.close()
    assert "200 it/s" in screen.text.splitlines()[-1]


def test_tests_and_snapshots_are_rows(report: TerminalReport, screen: Screen) -> None:
    report(TestStarted(500, 0))
    outputs = (Output("accuracy", 0.975, 0.0), Output("loss", 0.5, 1.0))
    report(TestCompleted(500, 0, outputs, None))
    report(SnapshotWritten(500, "snap_iter_500.caffemodel", "snap_iter_500.solverstate"))
    report(FinalLoss(1000, 0.5))
    rows = [line.strip() for line in screen.text.splitlines()]
    assert "iteration    500  test  accuracy = 0.975  loss = 0.5 (* 1 = 0.5 loss)" in rows
    assert "iteration    500  saved snap_iter_500.caffemodel" in rows


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (
            SolvingCompleted(1000, False, 20.0, 1.0),
            "done at iteration 1000 after 20.0 s (5.0% waiting for data)",
        ),
        (
            SolvingCompleted(7, True, 0.0, 0.0),
            "stopped at iteration 7 after 0.0 s (0.0% waiting for data)",
        ),
    ],
)
def test_the_end(
    report: TerminalReport, screen: Screen, record: SolvingCompleted, wanted: str
) -> None:
    report(record)
    assert screen.text.splitlines()[-1] == wanted
    assert "\x1b[?25h" in screen.file.getvalue()  # the cursor is shown again


def test_standard_error_unless_told_otherwise() -> None:
    assert TerminalReport().console.stderr


def test_names_that_look_like_markup(screen: Screen, report: TerminalReport) -> None:
    report(SnapshotWritten(20, "a[/b]/x.caffemodel", "a[/b]/x.solverstate"))
    report(TestCompleted(20, 0, (Output("acc[1]", 0.5, 0.0),), None))
    for text in ("a[/b]/x.caffemodel", "acc[1] = 0.5"):
        assert text in screen.text
