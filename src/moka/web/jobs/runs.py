"""What a page shows of a run: its log's facts, and its job's if it has one."""

from __future__ import annotations

import signal
import time
from math import isfinite
from pathlib import Path
from typing import Any

from moka.report.run_facts import RunFacts
from moka.web.jobs.curves import Curves, Series
from moka.web.jobs.job import Job
from moka.web.jobs.logs import LogFile
from moka.web.jobs.runner import error_tail

FRESH_S = 90.0  # a log of no job of ours that was written since counts as running
RECENT = 20  # displays whose speed tells the time left
SAVED_AND_ENDED = 75  # exit code of a run that was asked to save and end


def summary(name: str, log: LogFile, job: Job | None) -> dict[str, Any]:
    """A run in one row of a table."""
    with log.lock:
        facts, curves = log.facts, log.curves
        status, why = status_of(facts, log, job)
        row = {
            "id": name,
            "title": job.title if job else name,
            "is_job": job is not None,
            "status": status,
            "why": why,
            "net": facts.net,
            "policy": facts.policy,
            "iteration": facts.iteration,
            "max_iter": facts.max_iter,
            "started": facts.started_s or (job.created_s if job else None),
            "written": log.stamp[1] / 1e9 or None,
            "elapsed_s": facts.last_s,
            "loss": curves.last("loss"),
            "tests": {
                series.name.partition(":")[2]: curves.last(series.name)
                for series in curves.values()
                if series.name.startswith("test:")
            },
            "best": _best(facts),
            "stopping": facts.stopping,
            "epochs": epochs(facts.iteration, job),
            "origin": job.origin if job else "",
        }
        if status == "running":
            row["left_s"] = time_left(curves, facts)
            row["iterations_per_s"] = speed(curves)
        return row


def status_of(facts: RunFacts, log: LogFile, job: Job | None) -> tuple[str, str]:
    """(status, why): "waiting", "starting", "running", "finished", "stopped", "failed", "killed" or
    "unfinished", which a log without a process is whose end is missing."""
    if job is not None and job.waiting:
        return "waiting", "It starts when its turn comes."
    if job is not None and job.is_running():
        return ("running" if facts.iteration is not None else "starting"), ""
    if job is not None and job.process is None:
        return "waiting", "It has not been started."
    if facts.ended == "done":
        return "finished", ""
    if facts.stopping is not None and facts.ended:
        return "finished", f"Tests stopped to get better: ended early at {facts.stopping}."
    if facts.ended or (job is not None and job.exit_code == SAVED_AND_ENDED):
        return "stopped", "It was stopped before its end, and can be resumed."
    if job is not None and job.exit_code == -signal.SIGTERM:
        return "stopped", "It was stopped while it started, before it had anything to save."
    if facts.error:
        return "failed", facts.error
    if job is not None:
        said = error_tail(job.folder)
        if job.exit_code is not None and job.exit_code > 0 and said:
            return "failed", said
        if job.exit_code is None and said and facts.iteration is None:
            return "failed", said
        return "killed", "Its process was ended from outside, without a last word."
    if time.time() - log.stamp[1] / 1e9 < FRESH_S:
        return "running", ""
    return "unfinished", "The log ends before the run does."


def _best(facts: RunFacts) -> dict[str, Any] | None:
    best = facts.best
    if best is None:
        return None
    return {
        "iteration": best.iteration,
        "output": best.output,
        "value": best.value,
        "file": best.model_file,
    }


def speed(curves: Curves) -> float | None:
    """Iterations a second over the last displays, tests and snapshots counted in."""
    series = _clock(curves)
    if series is None or len(series.iterations) < 2:
        return None
    first = max(0, len(series.iterations) - RECENT)
    passed = series.seconds[-1] - series.seconds[first]
    done = series.iterations[-1] - series.iterations[first]
    return done / passed if passed > 0 and done > 0 else None


def time_left(curves: Curves, facts: RunFacts) -> float | None:
    """Seconds until max_iter at the present speed."""
    fast = speed(curves)
    if fast is None or facts.max_iter is None or facts.iteration is None:
        return None
    return max(0, facts.max_iter - facts.iteration) / fast


def _clock(curves: Curves) -> Series | None:
    """The series with the most points."""
    return max(curves.values(), key=lambda series: len(series.iterations), default=None)


def epochs(iteration: int | None, job: Job | None) -> float | None:
    """Passes over the training data so far."""
    each = iterations_per_epoch(job)
    return None if iteration is None or not each else iteration / each


def iterations_per_epoch(job: Job | None) -> float | None:
    """How many iterations are a pass over the training data, None if that is not known."""
    if job is None or job.epoch is None or not job.epoch[1]:
        return None
    return job.epoch[0] / job.epoch[1]


def marks(facts: RunFacts) -> list[dict[str, Any]]:
    """What curves point out: the best test, an early stop."""
    found = []
    if facts.best is not None and isfinite(facts.best.value):
        best = facts.best
        found.append(
            {
                "kind": "best",
                "iteration": best.iteration,
                "series": f"test:{best.output}",
                "value": best.value,
                "text": f"best {best.output}",
            }
        )
    if facts.stopping is not None:
        found.append({"kind": "stop", "iteration": facts.stopping, "text": "early stop"})
    return found


def snapshots(facts: RunFacts, root: Path) -> list[dict[str, Any]]:
    """The snapshots of a run that are still there, the newest first.

    Args:
        root: the folder that relative names start at.
    """
    found: dict[str, dict[str, Any]] = {}
    for saved in facts.saved:
        model, state = root / saved.model_file, root / saved.state_file
        if saved.model_file and model.is_file():
            found[saved.model_file] = {
                "iteration": saved.iteration,
                "model": saved.model_file,
                "state": saved.state_file if saved.state_file and state.is_file() else "",
                "bytes": model.stat().st_size,
                "written": model.stat().st_mtime,
                "is_best": False,
            }
    best = facts.best
    if best is not None and (root / best.model_file).is_file():
        status = (root / best.model_file).stat()
        best_state = best.model_file.replace(".caffemodel", ".solverstate")
        found[best.model_file] = {
            "iteration": best.iteration,
            "model": best.model_file,
            "state": best_state if (root / best_state).is_file() else "",
            "bytes": status.st_size,
            "written": status.st_mtime,
            "is_best": True,
        }
    return sorted(found.values(), key=lambda each: (each["iteration"], each["is_best"]))[::-1]
