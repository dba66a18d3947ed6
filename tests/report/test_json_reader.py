from __future__ import annotations

from math import inf, isnan, nan
from pathlib import Path

import pytest

from moka.errors import DataError
from moka.report.json_lines import JsonLines
from moka.report.log_file import read_log
from moka.report.records import (
    ClassesTested,
    FinalLoss,
    IterationCompleted,
    Output,
    Record,
    SnapshotWritten,
    SolvingStarted,
    TestCompleted,
    TestStarted,
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    times = iter(range(1000, 2000))
    monkeypatch.setattr("moka.report.json_lines.time.time", lambda: float(next(times)))


def write(*records: Record) -> None:
    lines = JsonLines("run.jsonl")
    for record in records:
        lines(record)
    lines.close()


def iteration(number: int, loss: float = 1.0, *, displayed: bool = True) -> IterationCompleted:
    outputs = (Output("loss", loss / 2, 1.0), Output("count", 7.0, 0.0)) if displayed else ()
    return IterationCompleted(number, loss, 0.5**number, displayed, outputs, display_every=2)


def test_what_a_run_says() -> None:
    write(
        SolvingStarted("net", "fixed", 0, 4),
        TestStarted(0, 0),
        TestCompleted(0, 0, (Output("accuracy", 0.25, 0.0), Output("out", 2.0, 0.5)), None),
        TestStarted(0, 1),
        ClassesTested(0, 1, "accuracy", ((1, 0.5),)),
        TestCompleted(0, 1, (Output("accuracy", 0.5, 0.0),), None),
        iteration(0),
        iteration(1, displayed=False),
        SnapshotWritten(2, "a", "b"),
        iteration(2, nan),
        TestStarted(2, 0),
        TestCompleted(2, 0, (Output("accuracy", inf, 0.0),), None),
    )
    log = read_log("run.jsonl")
    first, second = log.displays
    assert (first.iteration, first.seconds, first.loss, first.rate) == (0, 6.0, 1.0, 1.0)
    assert isnan(first.rate_before)
    assert (second.iteration, second.seconds, second.rate, second.rate_before) == (2, 9, 0.25, 1.0)
    assert isnan(second.loss)
    assert first.outputs == {"loss": 0.5, "count": 7.0}
    assert first.losses == {"loss"}
    tests = [(t.iteration, t.seconds, t.outputs, t.losses) for t in log.tests]
    assert tests[0] == (0, 2.0, {"accuracy": 0.25, "out": 2.0, "accuracy.1": 0.5}, {"out"})
    assert isnan(log.tests[1].outputs["accuracy"])
    assert len(tests) == 2


def test_a_run_without_displays() -> None:
    write(*(IterationCompleted(i, 4.0 - i, 0.1) for i in range(3)))
    assert [d.loss for d in read_log("run.jsonl").displays] == [4.0, 3.0, 2.0]


def test_the_final_loss() -> None:
    write(iteration(0), FinalLoss(1, 0.25))
    last = read_log("run.jsonl").displays[-1]
    assert (last.iteration, last.loss, last.rate_before, last.outputs) == (1, 0.25, 1.0, {})
    assert isnan(last.rate)


def test_a_line_that_was_cut_off() -> None:
    write(iteration(0), iteration(2))
    text = Path("run.jsonl").read_text()
    Path("run.jsonl").write_text(text[:-20])
    assert [d.iteration for d in read_log("run.jsonl").displays] == [0]


def test_nothing_in_it() -> None:
    write(SolvingStarted("net", "fixed", 0, 4))
    with pytest.raises(DataError, match="names no iteration"):
        read_log("run.jsonl")


def test_a_record_that_is_too_deep() -> None:
    Path("run.jsonl").write_text('{"record":' + "[" * 100_000)
    with pytest.raises(DataError, match="this log names no iteration"):
        read_log("run.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        '{"record": "FinalLoss", "time_s": 1, "iteration": "7", "loss": 1}',
        '{"record": "FinalLoss", "time_s": 1, "iteration": 1e39, "loss": 1}',
        '{"record": "FinalLoss", "time_s": 1, "iteration": 1' + "0" * 400 + ', "loss": 1}',
        '{"record": "FinalLoss", "time_s": 1, "iteration": 1, "loss": 1' + "0" * 400 + "}",
        '{"record": "FinalLoss", "time_s": "now", "iteration": 1, "loss": 1}',
        '{"record": []}',
    ],
)
def test_records_that_nobody_writes(line: str) -> None:
    write(iteration(1))
    with open("run.jsonl", "a") as file:
        file.write(line + "\n")
    assert [r.iteration for r in read_log("run.jsonl").displays] == [1]
