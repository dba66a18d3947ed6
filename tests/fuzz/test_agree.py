"""Ways to run a net: they agree, and one that does not is named."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import agree
import onnxruntime
import pytest
import torch
from agree import WHAT, Ways, What, disagreements, main
from random_nets import TEST, RandomNet, random_net
from torch import Tensor

from moka.engine.autograd import Autograd
from moka.inference.contract import Run, Task
from moka.inference.folded import Folded
from moka.inference.make import Maker
from moka.types import Array

AGREE = [("passes", 0), ("passes", 1), ("engines", 0), ("exports", 0)]
FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def found_by(what: str, seed: int) -> list[str]:
    return list(disagreements(what, random_net(seed, WHAT[what].phase)))


@pytest.mark.parametrize(("what", "seed"), AGREE)
def test_ways_agree(what: str, seed: int) -> None:
    assert not found_by(what, seed)


def test_a_wrong_loss_of_an_engine_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Autograd._loss
    monkeypatch.setattr(Autograd, "_loss", lambda self, blobs: 1.001 * right(self, blobs))
    found = found_by("passes", 0)
    assert len(found) > 5
    assert all("of the scale) in the loss of pass 0" in text for text in found)


def test_a_wrong_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Autograd.pass_over

    def wrong(self: Autograd, *args: Any, **more: Any) -> object:
        made = right(self, *args, **more)
        for blob in self.net.learnable:
            if (gradient := self.net.parameter_of(blob).grad) is not None:
                gradient *= 1.001
        return made

    monkeypatch.setattr(Autograd, "pass_over", wrong)
    found = found_by("passes", 8)
    assert any(text.startswith("plain: ") and "in the gradient of layer" in text for text in found)


def _wrong_program(self: Folded, task: Task, right: Callable[[Folded, Task], Run]) -> Run:
    run = right(self, task)

    def wrong(inputs: Sequence[Tensor]) -> list[Tensor]:
        return [1.001 * tensor for tensor in run(inputs)]

    return wrong


def test_a_wrong_program_is_noticed_whether_or_not_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Folded.make
    monkeypatch.setattr(Folded, "make", lambda self, task: _wrong_program(self, task, right))
    (thrown_away,) = found_by("engines", 0)
    assert thrown_away.startswith("torch: WrongProgramError in ")
    monkeypatch.setattr(Maker, "_is_true", lambda self, program: True)
    (used,) = found_by("engines", 0)
    assert used.startswith("torch: ")
    assert "of the scale) in blob" in used


def test_a_wrong_file_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *args: object) -> list[Array]:
            return [1.001 * values for values in super().run(*args)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    (found,) = found_by("exports", 0)
    assert found.startswith("onnx: ")


@FORKS
def test_the_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = ["--what", "engines", "--seed", "0", "--folder", str(tmp_path / "found")]
    assert main([*given, "--nets", "2"]) == 0
    assert capfd.readouterr().out == "2 nets from --seed 0, 0 with differences.\n"
    assert not list((tmp_path / "found").iterdir())


@FORKS
@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda net: {"one": dict, "other": lambda: 1 / 0}, "other: ZeroDivisionError in test_"),
        (lambda net: dict(one=dict, two=lambda: 1 / 0, three=lambda: 1 / 0), "two: ZeroDivision"),
        (lambda net: 1 / 0, "ZeroDivisionError in test_"),
        (lambda net: os._exit(3), "the process ended with code 3"),
        (lambda net: time.sleep(60), "no end"),
    ],
)
def test_what_is_found_is_printed_and_kept(
    does: Callable[[RandomNet], Ways],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(WHAT, "engines", What(TEST, does))
    monkeypatch.setattr(agree, "MOST_SECONDS", 1.0)
    given = ["--what", "engines", "--seed", "5", "--nets", "1", "--folder", str(tmp_path)]
    assert main(given) == 1
    line, summary = capfd.readouterr().out.splitlines()
    file = tmp_path / "engines_5.prototxt"
    assert line.startswith(f"engines --seed 5: {said}")
    assert line.endswith(f"; {file}")
    assert summary == "1 nets from --seed 5, 1 with differences."
    assert file.read_text() == random_net(5, TEST).text
