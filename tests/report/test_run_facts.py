"""What logs tell beside their numbers; records and log lines tell the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from moka.report.caffe_log import lines
from moka.report.json_lines import JsonLines
from moka.report.log_file import LogReader
from moka.report.records import (
    BestSnapshotWritten,
    EarlyStop,
    IterationCompleted,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
)
from moka.report.run_facts import Best, RunFacts, Saved

RUN: tuple[Record, ...] = (
    SolvingStarted("LeNet", "inv", 0, 300),
    IterationCompleted(0, 2.5, 0.1, displayed=True, lapse_s=1, lapse_iterations=1, display_every=9),
    SnapshotWritten(100, "a_iter_100.caffemodel", "a_iter_100.solverstate"),
    BestSnapshotWritten(100, "top 5: 50%", 0.75, "a_best.caffemodel"),
    SnapshotWritten(200, "a_iter_200.caffemodel.h5", "a_iter_200.solverstate.h5"),
    EarlyStop(200, 3, "top 5: 50%", 0.75, 100),
    SolvingCompleted(200, True, 2.0, 0.5),
)


def glog(message: str, letter: str = "I") -> str:
    return f"{letter}1129 08:31:22.500000 123 solver.cpp:1] {message}"


def from_lines(*text: str) -> RunFacts:
    reader = LogReader(2026)
    for line in text:
        reader.take(line)
    return reader.facts


def as_log(*records: Record) -> list[str]:
    return [glog(line) for record in records for line in lines(record)]


def as_records(folder: Path, *records: Record) -> list[str]:
    listener = JsonLines(folder / "run.jsonl")
    for record in records:
        listener(record)
    listener.close()
    return (folder / "run.jsonl").read_text().splitlines()


@pytest.mark.parametrize("kind", ["log", "records"])
def test_a_run_from_its_start_to_its_end(kind: str, tmp_path: Path) -> None:
    text = as_log(*RUN) if kind == "log" else as_records(tmp_path, *RUN)
    facts = from_lines("max_iter: 300", *text)
    assert (facts.net, facts.policy, facts.max_iter) == ("LeNet", "inv", 300)
    assert facts.saved == [
        Saved(100, "a_iter_100.caffemodel", "a_iter_100.solverstate"),
        Saved(200, "a_iter_200.caffemodel.h5", "a_iter_200.solverstate.h5"),
    ]
    assert facts.best == Best(100, "top 5: 50%", 0.75, "a_best.caffemodel")
    assert (facts.iteration, facts.stopping, facts.ended) == (200, 200, "early")
    assert facts.started_s is not None


@pytest.mark.parametrize("kind", ["log", "records"])
def test_a_resumed_run_has_not_ended(kind: str, tmp_path: Path) -> None:
    twice = (*RUN, SolvingStarted("LeNet", "inv", 200, 300))
    facts = from_lines(*(as_log(*twice) if kind == "log" else as_records(tmp_path, *twice)))
    assert (facts.ended, facts.stopping) == ("", None)
    assert len(facts.saved) == 2


def test_the_end_of_a_run_that_reached_it() -> None:
    assert from_lines(*as_log(SolvingCompleted(300, False, 2.0, 0.5))).ended == "done"
    stopped = from_lines(glog("Optimization stopped early."), glog("Optimization Done."))
    assert stopped.ended == "early"


def test_what_ended_a_run() -> None:
    facts = from_lines(glog("Solving LeNet"), glog("Check failed: error == 0", "F"))
    assert facts.error == "Check failed: error == 0"
    assert from_lines(glog("no such file", "F"), glog("Solving LeNet")).error == ""


def test_silent_iterations_move_the_run_on(tmp_path: Path) -> None:
    silent = [IterationCompleted(i, 1.0, 0.1, display_every=9) for i in (1, 2)]
    facts = from_lines(*as_records(tmp_path, *RUN[:2], *silent))
    assert facts.iteration == 2


def test_a_log_is_followed_while_it_is_written() -> None:
    reader = LogReader(2026)
    reader.take(glog("Iteration 0, loss = 3"))
    assert reader.take_readings() == ([], [])
    reader.take(glog("    Train net output #0: loss = 2"))
    reader.take(glog("Iteration 9, loss = 2"))
    (first,), _ = reader.take_readings()
    assert (first.iteration, first.outputs) == (0, {"loss": 2.0})
    (last,), _ = reader.take_readings(all_of_them=True)
    assert (last.iteration, last.loss) == (9, 2.0)


def test_snapshots_as_early_versions_named_them() -> None:
    facts = from_lines(
        glog("Solving x"),
        glog("Iteration 200, loss = 1"),
        glog("Snapshotting to a_iter_200.caffemodel"),
        glog("Snapshotting solver state to a_iter_200.solverstate"),
    )
    assert facts.saved == [Saved(200, "a_iter_200.caffemodel", "a_iter_200.solverstate")]
