"""Logs are found, followed while they are written, and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.web.sites import wait_until

from moka.web.folder import Folder
from moka.web.jobs.index import KEPT, RunIndex
from moka.web.jobs.logs import LogFile, find_logs, looks_like_a_log


def line(message: str, second: int = 0) -> str:
    return f"I1129 08:31:{second:02d}.000000 123 solver.cpp:239] {message}\n"


def display(iteration: int, loss: float) -> str:
    return line(f"Iteration {iteration}, loss = {loss}", iteration % 60)


START = "max_iter: 100\n" + line("Solving LeNet")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    files = {
        "caffe.log": START + display(0, 3) + display(10, 2),
        "old/train.log": START + display(0, 4),
        "notes.log": "nothing of that kind\n",
        "readme.txt": display(0, 1),
        "jobs/one/job.json": "{}",
        "jobs/one/train.log": START + display(0, 5),
        "jobs/one/run.jsonl": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Folder(tmp_path)


def test_which_files_are_logs(folder: Folder) -> None:
    found = {folder.name(path) for path in find_logs(folder)}
    assert found == {"caffe.log", "old/train.log", "notes.log", "jobs/one/run.jsonl"}
    assert looks_like_a_log(folder.path / "caffe.log")
    assert not looks_like_a_log(folder.path / "notes.log")
    assert not looks_like_a_log(folder.path / "none.log")


def test_a_log_is_read_on(folder: Folder) -> None:
    path = folder.path / "caffe.log"
    log = LogFile(path)
    assert log.update()
    assert not log.update()
    assert list(log.curves["loss"].values) == [3, 2]
    with path.open("a") as file:
        file.write(display(20, 1) + "I1129 08:31:21.0")  # a line that is cut off
    assert log.update()
    assert list(log.curves["loss"].iterations) == [0, 10, 20]
    assert (log.facts.net, log.facts.max_iter, log.facts.iteration) == ("LeNet", 100, 20)
    with path.open("a") as file:
        file.write("00000 123 solver.cpp:239] Iteration 21, loss = 0.5\n")
    assert log.update()
    assert list(log.curves["loss"].values) == [3, 2, 1, 0.5]


def test_a_log_that_begins_anew(folder: Folder) -> None:
    path = folder.path / "caffe.log"
    log = LogFile(path)
    log.update()
    path.write_text(display(0, 9))
    assert log.update()
    assert list(log.curves["loss"].values) == [9]


def test_utf16(folder: Folder) -> None:
    path = folder.path / "windows.log"
    path.write_bytes((START + display(0, 3)).encode("utf-16"))
    log = LogFile(path)
    log.update()
    assert list(log.curves["loss"].values) == [3]


def test_what_was_read_is_remembered(folder: Folder) -> None:
    path, kept = folder.path / "caffe.log", folder.path / KEPT
    log = LogFile(path)
    log.update()
    log.remember(kept)
    again = LogFile(path)
    assert again.recall(kept)
    assert again.facts == log.facts
    assert again.curves == log.curves
    assert not again.update()
    with path.open("a") as file:
        file.write(display(20, 1))
    assert not LogFile(path).recall(kept)
    assert again.update()
    assert list(again.curves["loss"].values) == [3, 2, 1]


def test_what_is_remembered_may_be_damaged(folder: Folder) -> None:
    path, kept = folder.path / "caffe.log", folder.path / KEPT
    log = LogFile(path)
    log.update()
    log.remember(kept)
    (file,) = kept.iterdir()
    file.write_bytes(b"broken")
    assert not LogFile(path).recall(kept)


def test_the_index_reads_all_and_notices_what_comes_and_goes(folder: Folder) -> None:
    index = RunIndex(folder)
    try:
        wait_until(lambda: set(index.logs()) == {"caffe.log", "old/train.log", "jobs/one"})
        (folder.path / "new.log").write_text(START + display(0, 1))
        (folder.path / "old/train.log").unlink()
        record = {"record": "SolvingStarted", "time_s": 1.0, "net": "n", "lr_policy": "fixed"}
        text = json.dumps(record | {"iteration": 0, "max_iter": 9})
        (folder.path / "jobs/one/run.jsonl").write_text(text + "\n")
        before = index.changes
        index.look()
        wait_until(lambda: set(index.logs()) == {"caffe.log", "new.log", "jobs/one"})
        wait_until(lambda: index.logs()["jobs/one"].facts.max_iter == 9)
        assert index.changes > before
        assert index.unread == 0
    finally:
        index.close()
