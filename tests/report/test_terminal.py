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
    """A terminal, of 120 columns, that remembers what was written to it."""

    def __init__(self, width: int = 120, height: int = 40) -> None:
        self.file = StringIO()
        self.console = Console(file=self.file, force_terminal=True, width=width, height=height)

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


def train(screen: Screen, iterations: int = 50, start: int = 0, images: int = 0) -> list[str]:
    """The last lines on a screen, after a run whose loss falls from 4 to 1; it was resumed."""
    report = TerminalReport(screen.console, images=images)
    report(SolvingStarted("LeNet", "fixed", 0, 1000))
    for i in range(iterations):
        loss = 4 - 3 * i / max(iterations - 1, 1)
        lapse = {"displayed": i > 0, "lapse_s": 0.5, "lapse_iterations": 100}
        report(IterationCompleted(start + i, loss, 0.01, **lapse))  # type: ignore[arg-type]
    report.close()
    return screen.text.splitlines()[-11:]


def test_the_loss_as_a_chart() -> None:
    title, *rows, axis, bar = train(Screen(), start=500)
    assert title.strip() == "loss"
    assert rows[0].startswith("       4 ┤")
    assert rows[-1].startswith("       1 ┤")
    assert len(rows) == 8
    assert {len(row) for row in [*rows, axis]} == {119}
    assert axis.split() == ["└", "iteration", "500", "549"]
    assert "550/1000" in bar


@pytest.mark.parametrize(("width", "height"), [(59, 40), (120, 19)])
def test_no_chart_where_there_is_no_room(width: int, height: int) -> None:
    screen = Screen(width, height)
    train(screen)
    assert "┤" not in screen.text
    assert "loss 1 " in screen.text


def test_no_chart_without_the_characters_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(Console, "encoding", "ascii")
    assert "50/1000" in train(screen)[-1]
    assert "┤" not in screen.text


def test_no_chart_of_one_point() -> None:
    screen = Screen()
    train(screen, iterations=1)
    assert "┤" not in screen.text


@pytest.mark.parametrize(
    ("width", "parts", "missing"),
    [
        (120, ("LeNet", "━", "50/1000", "loss 1 ", "lr 0.01", "12,800 images/s", "0:0"), ""),
        (80, ("50/1000", "loss 1 ", "lr 0.01", "12,800 images/s", "0:0"), "LeNet"),
        (50, ("50/1000", "loss 1 ", "lr 0.01"), "images"),
    ],
)
def test_a_bar_for_every_width(width: int, parts: tuple[str, ...], missing: str) -> None:
    bar = train(Screen(width), images=64)[-1]
    for part in parts:
        assert part in bar
    assert not missing or missing not in bar
    assert len(bar) <= width


def test_of_several_processes_the_slowest_is_shown(report: TerminalReport, screen: Screen) -> None:
    record = IterationCompleted(
        40, 0.1, 0.01, displayed=True, lapse_s=0.5, lapse_iterations=20,
        slowest=(3, "node7", 0.03, 0.024),
    )  # fmt: skip
    report(record)
    report.close()
    assert "40 it/s, slowest 3 on node7 (1.25x)" in screen.text
