"""Jobs start in turn, are stopped, put aside and brought back."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

from moka.errors import DataError, UsageError
from moka.web.folder import Folder
from moka.web.jobs import runner as runner_module
from moka.web.jobs.job import Job, new_folder, read_job
from moka.web.jobs.runner import Runner, error_tail

SLEEP = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75));"
SLEEP += "open(sys.argv[1], 'w').close(); time.sleep(600)"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes in place of `caffe train`: they sleep until they are stopped."""
    children: list[subprocess.Popen[bytes]] = []

    def start(arguments: Sequence[str], folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
        sign = folder / f"ready{len(children)}"
        child = subprocess.Popen(
            [sys.executable, "-c", SLEEP, str(sign)], start_new_session=True, stdout=output
        )
        children.append(child)
        while not sign.exists():
            time.sleep(0.01)
        return child

    monkeypatch.setattr(runner_module, "start_caffe", start)
    yield children
    for child in children:
        child.returncode = None  # the runner may have left it to itself: `kill` would do nothing
        child.kill()
        child.wait()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(Folder(tmp_path))


def make(runner: Runner, title: str, created_s: float = 0.0) -> Job:
    job = Job(new_folder(runner.folder.path, title), title, created_s)
    job.save()
    runner.add(job)
    return job


def ended(runner: Runner, child: subprocess.Popen[bytes]) -> None:
    child.wait(30)
    runner.look()


def test_jobs_start_in_turn(runner: Runner, started: list[subprocess.Popen[bytes]]) -> None:
    jobs = [make(runner, name, i) for i, name in enumerate(("a", "b"))]
    for job in jobs:
        runner.wait_for_turn(job, [])
    assert [job.is_running() for job in jobs] == [True, False]
    assert jobs[1].waiting
    runner.stop(jobs[0], "save")
    ended(runner, started[0])
    assert jobs[0].exit_code == 75
    assert [job.is_running() for job in jobs] == [False, True]


def test_several_at_once(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    runner = Runner(Folder(tmp_path), at_once=2)
    for i in range(3):
        runner.wait_for_turn(make(runner, f"job {i}", i), [])
    assert len(started) == 2


def test_a_job_that_runs_is_left_alone(
    runner: Runner, started: list[subprocess.Popen[bytes]]
) -> None:
    job = make(runner, "a")
    runner.wait_for_turn(job, [])
    with pytest.raises(UsageError, match="running or waiting already"):
        runner.wait_for_turn(job, [])
    with pytest.raises(UsageError, match="stop it first"):
        runner.remove(job)


def test_another_server_finds_the_job_running(
    runner: Runner, started: list[subprocess.Popen[bytes]]
) -> None:
    """A server that is killed loses no job: the next one reads it from its folder."""
    job = make(runner, "a")
    runner.wait_for_turn(job, [])
    other = Runner(runner.folder)
    other.open()
    try:
        found = other.job("jobs/a")
        assert found.is_running()
        other.stop(found, "now")
        started[0].wait(30)
        assert not found.is_running()
    finally:
        other.close()


def test_a_server_starts_what_was_waiting(
    runner: Runner, started: list[subprocess.Popen[bytes]]
) -> None:
    job = make(runner, "a")
    job.waiting = True
    job.save()
    other = Runner(runner.folder)
    other.open()
    try:
        until = time.monotonic() + 30
        while not started and time.monotonic() < until:
            time.sleep(0.02)
        assert len(started) == 1
    finally:
        other.close()


def test_what_waits_can_be_called_off(
    runner: Runner, started: list[subprocess.Popen[bytes]]
) -> None:
    first, second = make(runner, "a"), make(runner, "b", 1)
    runner.wait_for_turn(first, [])
    runner.wait_for_turn(second, [])
    runner.stop(second, "save")
    assert not second.waiting
    with pytest.raises(UsageError, match="b is not running"):
        runner.stop(second, "save")
    with pytest.raises(UsageError, match="has to be one of save, now, snapshot"):
        runner.stop(first, "soon")


def test_delete_and_undo(runner: Runner) -> None:
    job = make(runner, "My net")
    (job.folder / "train.log").write_text("text")
    word = runner.remove(job)
    assert not job.folder.exists()
    with pytest.raises(UsageError, match="there is no job"):
        runner.job("jobs/my-net")
    back = runner.restore(word)
    assert (back.folder / "train.log").read_text() == "text"
    assert runner.job("jobs/my-net").title == "My net"
    with pytest.raises(UsageError, match="no such job to bring back"):
        runner.restore(word)


@pytest.mark.parametrize("word", ["", "..", "../trash", "1-../../x", "/etc"])
def test_no_word_brings_back_anything_else(runner: Runner, word: str) -> None:
    with pytest.raises(UsageError):
        runner.restore(word)


def test_undo_does_not_overwrite(runner: Runner) -> None:
    word = runner.remove(make(runner, "a"))
    make(runner, "a")
    with pytest.raises(UsageError, match="taken by another job"):
        runner.restore(word)


def test_a_new_title_leaves_the_folder(runner: Runner) -> None:
    job = make(runner, "a")
    runner.rename(job, "another")
    assert read_job(job.folder).title == "another"
    assert job.folder.name == "a"


def test_folders_of_jobs(tmp_path: Path) -> None:
    names = [
        new_folder(tmp_path, title).name for title in ("Le Net!", "le net", "../x", "日本", "")
    ]
    assert names == ["le-net", "le-net-2", "x", "日本", "job"]


def test_the_shell_line(tmp_path: Path) -> None:
    root = tmp_path / "a folder"
    root.mkdir()
    job = Job(new_folder(root, "net"), "net", 0, start=["--snapshot=jobs/net/a b.solverstate"])
    line = job.shell_line(root)
    assert line.startswith(f"cd '{root}' && caffe train --solver=jobs/net/solver.prototxt")
    assert "'--snapshot=jobs/net/a b.solverstate'" in line
    words = shlex.split(line.partition("&& caffe ")[2].partition(" 2>>")[0])
    assert words == job.arguments(root)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"title": 3, "what": 4}', '{"process": 7}', "[" * 99_999, '{"epoch": {"a": 1}}'],
)
def test_a_broken_job_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(DataError, match="is no file of a job"):
        read_job(tmp_path)


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    assert error_tail(tmp_path) == ""
    lines = ["I1129 08:31:22.0 1 a.py:1] fine", "F1129 08:31:22.0 1 a.py:1] net: it is wrong.", ""]
    (tmp_path / "train.log").write_text("\n".join(lines))
    assert error_tail(tmp_path) == "net: it is wrong."
