"""The API of the jobs, below /api/jobs."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from moka.errors import MokaError, UsageError
from moka.web.answers import Values, events, get, number, post, wanted, whole
from moka.web.app import Part
from moka.web.folder import Folder
from moka.web.jobs import devices, form, making
from moka.web.jobs.curves import reduced
from moka.web.jobs.index import RunIndex
from moka.web.jobs.job import LOG, NET, SOLVER
from moka.web.jobs.logs import LogFile
from moka.web.jobs.runner import Runner
from moka.web.jobs.runs import iterations_per_epoch, marks, snapshots, summary
from moka.web.machine import Machine

POINTS, MOST_POINTS = 400, 2000  # of a curve
MOST_COMPARED = 24  # runs
EVENT_EVERY_S = 1.0
LOG_TAIL = 64 << 10  # bytes of a log that a page shows


class Jobs:
    """The answers."""

    def __init__(self, folder: Folder, at_once: int = 1) -> None:
        self.folder = folder
        self.runner = Runner(folder, at_once)
        self.index = RunIndex(folder)
        self.machine = Machine()
        self.runner.open()

    def close(self) -> None:
        """End the threads; jobs go on."""
        self.index.close()
        self.runner.close()

    def routes(self) -> list[BaseRoute]:
        return [
            get("/list", self.all_runs),
            get("/run", self.run),
            get("/curves", self.curves),
            get("/csv", self.csv),
            get("/log", self.log),
            get("/load", lambda _: self.machine.load()),
            get("/form", self.form),
            post("/preview", self.preview),
            post("/check", lambda values: making.dry_run(self.folder, values)),
            post("/make", self.make),
            post("/start", self.start),
            post("/stop", self.stop),
            post("/rename", self.rename),
            post("/delete", self.delete),
            post("/restore", self.restore),
            Route("/events", self.events),
        ]

    # --- looking -----------------------------------------------------------------------------

    def all_runs(self, _: Values) -> dict[str, Any]:
        """All runs, the newest first."""
        self.runner.look()  # else one that has just ended would count as killed for a moment
        jobs = self.runner.jobs()
        rows = [summary(name, log, jobs.get(name)) for name, log in self.index.logs().items()]
        rows.sort(key=lambda row: row["started"] or 0, reverse=True)
        return {
            "runs": rows,
            "unread": self.index.unread,
            "folder": str(self.folder.path),
            "at_once": self.runner.at_once,
        }

    def run(self, values: Values) -> dict[str, Any]:
        """One run in full."""
        name = wanted(values, "id")
        log = self._log(name)
        self.runner.look()
        job = self.runner.jobs().get(name)
        found = summary(name, log, job)
        with log.lock:
            found["snapshots"] = snapshots(log.facts, self.folder.path)
        if job is not None:
            process = job.process if job.is_running() else None
            found |= {
                "shell": job.shell_line(self.folder.path),
                "solver": (job.folder / SOLVER).read_text(errors="replace"),
                "net_file": self.folder.name(job.folder / NET),
                "created": job.created_s,
                "epoch": job.epoch,
                "process": process
                and {
                    "pid": process.pid,
                    "cpu_s": process.cpu_s(),
                    "memory": process.memory_bytes(),
                },
            }
        return found

    def curves(self, values: Values) -> dict[str, Any]:
        """The curves of some runs, in few points. Only what is noisy is smoothed."""
        weight = number(values, "smooth", 0.0)
        if not 0 <= weight < 1:
            raise UsageError(f"smooth has to be from 0 to below 1, got {weight:g}.")
        points = whole(values, "points", POINTS, 2, MOST_POINTS)
        jobs = self.runner.jobs()
        found = []
        for name in self._names(values):
            log, job = self._log(name), jobs.get(name)
            with log.lock:
                series = [
                    {"name": each.name, "kind": each.kind, "count": len(each.values)}
                    | reduced(each, points, weight if each.is_noisy else 0.0)
                    for each in log.curves.values()
                ]
                found.append(
                    {
                        "id": name,
                        "title": job.title if job else name,
                        "per_epoch": iterations_per_epoch(job),
                        "series": series,
                        "marks": marks(log.facts),
                        "max_iter": log.facts.max_iter,
                    }
                )
        return {"runs": found}

    def csv(self, values: Values) -> Response:
        """Every number of some runs, a row for each."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["run", "iteration", "seconds", "epoch", "name", "value"])
        for name in self._names(values):
            log = self._log(name)
            per_epoch = iterations_per_epoch(self.runner.jobs().get(name))
            with log.lock:
                for series in log.curves.values():
                    for x, s, y in zip(
                        series.iterations, series.seconds, series.values, strict=True
                    ):
                        epoch = f"{x / per_epoch:.6g}" if per_epoch else ""
                        writer.writerow(
                            [_cell(name), int(x), f"{s:.6f}", epoch, _cell(series.name), f"{y:.9g}"]
                        )
        headers = {"Content-Disposition": 'attachment; filename="runs.csv"'}
        return PlainTextResponse(out.getvalue(), headers=headers, media_type="text/csv")

    def log(self, values: Values) -> dict[str, Any]:
        """The end of a run's log."""
        name = wanted(values, "id")
        job = self.runner.jobs().get(name)
        path = job.folder / LOG if job else self._log(name).path
        if not path.exists():
            return {"text": "", "bytes": 0}
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL))
            return {"text": file.read().decode(errors="replace"), "bytes": size}

    async def events(self, request: Request) -> Response:
        """The rows of runs that have changed, as soon as they have."""

        async def changes() -> AsyncIterator[Any]:
            known: dict[str, Any] = {}
            while not await request.is_disconnected():
                listed = await run_in_threadpool(self.all_runs, {})
                rows = {row["id"]: row for row in listed["runs"]}
                changed = [row for name, row in rows.items() if known.get(name) != row]
                gone = [name for name in known if name not in rows]
                load = await run_in_threadpool(self.machine.load)
                if not known or changed or gone:
                    yield {"runs": changed, "gone": gone, "load": load, "unread": listed["unread"]}
                else:
                    yield {"load": load}
                known = rows
                await anyio.sleep(EVENT_EVERY_S)

        return events(changes)

    # --- doing -------------------------------------------------------------------------------

    def form(self, values: Values) -> dict[str, Any]:
        """What the form for a new job begins with."""
        start: dict[str, Any] = {"fields": dict(form.START), "devices": {}}
        if values.get("like"):
            start = making.form_of(self.runner, str(values["like"]))
        return {
            **form.description(),
            "devices": devices.described(),
            "start": start,
            "nets": making.net_files(self.folder),
        }

    def preview(self, values: Values) -> dict[str, Any]:
        """What a form makes: the solver's text, what is wrong, the rate, epochs."""
        fields = dict(values.get("fields") or {})
        shown = asdict(form.preview(fields))
        shown["net_problems"], epoch, batches = [], None, 1
        try:
            batches = devices.devices_of(values).batches
        except MokaError as error:
            shown["problem"] = shown["problem"] or str(error)
        try:
            shown["jobs"] = len(form.sweep(fields))
            net = making.net_of(self.folder, values)
            shown["net_name"] = net.name
            shown["net_problems"] = making.problems_of_net(net, str(values.get("net") or "the net"))
            epoch = making.epoch_in(net, "the net")
        except MokaError as error:
            if values.get("net") or values.get("net_text"):
                shown["net_problems"] = [str(error)]
        return shown | form.epochs_told(fields, epoch, batches)

    def make(self, values: Values) -> dict[str, Any]:
        """Make the form's jobs, and start them unless told not to."""
        jobs = making.make_jobs(self.runner, values)
        for job in jobs:
            if values.get("start", True):
                self.runner.wait_for_turn(job, job.start)
        self.index.look()
        return {"ids": [self.runner.name(job) for job in jobs]}

    def start(self, values: Values) -> dict[str, Any]:
        """Start a job, or let it go on from a snapshot: "auto" is its newest."""
        job = self.runner.job(wanted(values, "id"))
        snapshot = str(values.get("snapshot") or "")
        if snapshot and snapshot != "auto":
            self.folder.existing(snapshot)
        self.runner.wait_for_turn(job, [f"--snapshot={snapshot}"] if snapshot else job.start)
        return {}

    def stop(self, values: Values) -> dict[str, Any]:
        """Stop a job: how = save, now or snapshot."""
        self.runner.stop(self.runner.job(wanted(values, "id")), wanted(values, "how"))
        return {}

    def rename(self, values: Values) -> dict[str, Any]:
        """Give a job another title."""
        self.runner.rename(self.runner.job(wanted(values, "id")), wanted(values, "title"))
        return {}

    def delete(self, values: Values) -> dict[str, Any]:
        """Put a job aside; the answer's word brings it back."""
        word = self.runner.remove(self.runner.job(wanted(values, "id")))
        self.index.look()
        return {"undo": word}

    def restore(self, values: Values) -> dict[str, Any]:
        """Bring a job back."""
        job = self.runner.restore(wanted(values, "undo"))
        self.index.look()
        return {"id": self.runner.name(job)}

    # --- help --------------------------------------------------------------------------------

    def _log(self, name: str) -> LogFile:
        log = self.index.log(name)
        if log is None:
            raise UsageError(f'there is no run "{name}" in {self.folder.path}.')
        return log

    def _names(self, values: Values) -> Iterator[str]:
        names = [unquote(name) for name in wanted(values, "runs").split(",") if name]
        if len(names) > MOST_COMPARED:
            raise UsageError(f"at most {MOST_COMPARED} runs are compared, got {len(names)}.")
        return iter(names)


def _cell(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def jobs_part(folder: Folder, at_once: int = 1) -> Part:
    """The jobs of a folder, as a part of the site."""
    jobs = Jobs(folder, at_once)
    return Part("Jobs", "jobs", jobs.routes(), jobs.close)
