"""Whatever is wrong with the input: one sentence that names it, exit code 1, nothing destroyed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.bad_inputs import CASES, FINETUNE, RESUME, SCORE, TIME, TRAIN

from moka.net import build_net
from moka.schema import caffe_pb2
from moka.weights import save_weights

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe, Run


@pytest.fixture
def good(workspace: Path) -> Path:
    """The workspace with weights that fit."""
    net = build_net("net.prototxt", caffe_pb2.TEST)
    save_weights(net, "good.caffemodel")
    net.close()
    return workspace


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def check_refusal(run: Run, says: tuple[str, ...]) -> None:
    assert run.code == 1
    (message,) = run.messages("F")
    for part in says:
        assert part in message
    assert "Traceback" not in run.err + run.out
    assert message[-1] in ".?)"  # a sentence, to its end


@pytest.mark.parametrize("command", [TRAIN, FINETUNE, SCORE, TIME])
def test_good_input_is_taken(good: Path, caffe: Caffe, command: str) -> None:
    """So that what follows is refused for the reason named, not for another."""
    run = caffe(*command.split())
    assert run.code == 0
    assert run.messages("WEF") == []


@pytest.mark.parametrize("name", CASES)
def test_bad_input(good: Path, caffe: Caffe, name: str) -> None:
    case = CASES[name]
    case.spoil()
    before = contents(good)
    run = caffe(*case.command.split())
    check_refusal(run, case.says)
    after = contents(good)
    assert {file: after.get(file) for file in before} == before
    assert after.keys() - before.keys() == set(case.leaves)


def test_disk_full_at_a_snapshot(good: Path, caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = 4  # syncs: model and state of iteration 2, each with its folder

    def fsync(handle: int) -> None:
        nonlocal fine
        fine -= 1
        if fine < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    before = contents(good)
    run = caffe(*TRAIN.split())
    check_refusal(run, ("snap_iter_4.caffemodel: ", "iteration 4", "No space left", "resume"))
    after = contents(good)
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {"snap_iter_2.caffemodel", "snap_iter_2.solverstate"}
    assert caffe(*RESUME.split()).code == 1  # still full
    monkeypatch.undo()
    os.chdir(good)
    assert caffe(*RESUME.split()).code == 0
