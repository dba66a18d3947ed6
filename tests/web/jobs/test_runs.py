"""How a run stands, as its log and its process tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moka.report.readings import Reading
from moka.report.run_facts import Best, RunFacts, Saved
from moka.web.jobs.curves import Curves
from moka.web.jobs.job import Job
from moka.web.jobs.logs import LogFile
from moka.web.jobs.runs import marks, snapshots, speed, status_of, time_left
from moka.web.processes import Process

OVER = Process(2**22 + 1)  # a number that no process has


def job(folder: Path, **more: object) -> Job:
    return Job(folder, "a", 0.0, **more)  # type: ignore[arg-type]


def log(folder: Path, age_s: float = 1e6) -> LogFile:
    path = folder / "run.jsonl"
    path.touch()
    made = LogFile(path)
    now = path.stat().st_mtime_ns
    made.stamp = (0, int(now - age_s * 1e9))
    return made


@pytest.mark.parametrize(
    ("facts", "more", "status"),
    [
        (RunFacts(), {"waiting": True}, "waiting"),
        (RunFacts(), {}, "waiting"),
        (RunFacts(), {"process": Process(os.getpid())}, "starting"),
        (RunFacts(iteration=3), {"process": Process(os.getpid())}, "running"),
        (RunFacts(iteration=9, ended="done"), {"process": OVER}, "finished"),
        (RunFacts(iteration=9, ended="early", stopping=9), {"process": OVER}, "finished"),
        (RunFacts(iteration=9, ended="early"), {"process": OVER}, "stopped"),
        (RunFacts(iteration=9), {"process": OVER, "exit_code": 75}, "stopped"),
        (RunFacts(iteration=9), {"process": OVER, "exit_code": -9}, "killed"),
        (RunFacts(iteration=9), {"process": OVER, "exit_code": -15}, "stopped"),
        (RunFacts(iteration=9), {"process": OVER}, "killed"),
        (RunFacts(error="no data"), {"process": OVER}, "failed"),
    ],
)
def test_jobs(facts: RunFacts, more: dict[str, object], status: str, tmp_path: Path) -> None:
    assert status_of(facts, log(tmp_path), job(tmp_path, **more))[0] == status


def test_a_job_that_failed_says_why(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("F1129 08:31:22.0 1 a.py:1] net: it is wrong.\n")
    failed = job(tmp_path, process=OVER, exit_code=1)
    assert status_of(RunFacts(), log(tmp_path), failed) == ("failed", "net: it is wrong.")


@pytest.mark.parametrize(
    ("facts", "age_s", "status"),
    [
        (RunFacts(iteration=9), 1, "running"),
        (RunFacts(iteration=9), 1e5, "unfinished"),
        (RunFacts(iteration=9, ended="done"), 1, "finished"),
        (RunFacts(iteration=9, error="no"), 1, "failed"),
    ],
)
def test_logs_of_others(facts: RunFacts, age_s: float, status: str, tmp_path: Path) -> None:
    assert status_of(facts, log(tmp_path, age_s), None)[0] == status


def test_time_left() -> None:
    curves = Curves()
    assert speed(curves) is None
    readings = [Reading(i * 10, i * 2.0, 0.1, 0.1, 1.0) for i in range(50)]
    curves.add(readings, [])
    assert speed(curves) == pytest.approx(5.0)
    assert time_left(curves, RunFacts(iteration=490, max_iter=1000)) == pytest.approx(102.0)
    assert time_left(curves, RunFacts(iteration=490)) is None


def test_marks() -> None:
    best = Best(20, "accuracy", 0.5, "a_best.caffemodel")
    found = marks(RunFacts(best=best, stopping=50))
    assert [m["iteration"] for m in found] == [20, 50]
    assert found[0]["series"] == "test:accuracy"
    assert marks(RunFacts()) == []


def test_snapshots_that_are_still_there(tmp_path: Path) -> None:
    for name in ("a_iter_20.caffemodel", "a_iter_20.solverstate", "a_best.caffemodel"):
        (tmp_path / name).write_text("x")
    facts = RunFacts(
        saved=[
            Saved(10, "a_iter_10.caffemodel", "a_iter_10.solverstate"),
            Saved(20, "a_iter_20.caffemodel", "a_iter_20.solverstate"),
        ],
        best=Best(15, "accuracy", 0.5, "a_best.caffemodel"),
    )
    found = snapshots(facts, tmp_path)
    assert [(s["iteration"], s["is_best"], s["state"]) for s in found] == [
        (20, False, "a_iter_20.solverstate"),
        (15, True, ""),
    ]
