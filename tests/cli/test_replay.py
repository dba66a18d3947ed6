from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe

SOLVER = "-solver=solver.prototxt"


@pytest.fixture(autouse=True)
def _workspace(workspace: Path) -> None:
    """All tests here run in it."""


def diverge(caffe: Caffe) -> str:
    """A run whose second iteration breaks; what it says at the end."""
    text = Path("solver.prototxt").read_text()
    Path("solver.prototxt").write_text(text.replace("base_lr: 0.01", "base_lr: 1e30"))
    run = caffe("train", SOLVER)
    assert run.code == 1
    return run.messages("F")[0]


def test_the_iteration_that_broke_layer_by_layer(caffe: Caffe) -> None:
    said = diverge(caffe)
    assert said.endswith("See that iteration layer by layer with --replay=snap_iter_1.replay.")
    shutil.rmtree("train_lmdb")  # the data is not needed
    before = sorted(Path().iterdir())
    run = caffe("train", SOLVER, "--replay=snap_iter_1.replay")
    assert run.code == 0
    messages = run.messages("I")
    start = messages.index("Iteration 1 of small, at a learning rate of 1e+30")
    assert messages[start + 1] == "    Layer data, batch: 00000004, 00000005, 00000006, 00000007"
    lines = messages[start + 2 :]
    data, label = lines[:2]
    assert data.startswith("    [Forward] Layer data, top blob data data: min -")
    assert label == "    [Forward] Layer data, top blob label data: min 0, max 2, mean abs 1"
    assert "    [Forward] Layer ip, top blob ip data: not finite: 12 of 12 values, the first is nan"
    assert [line.split(":")[0] for line in lines if "not finite" in line][:2] == [
        "    [Forward] Layer ip, top blob ip data",
        "    [Forward] Layer loss, top blob loss data",
    ]
    assert any("diff: min 0, max 0, mean abs 0; not finite: " in line for line in lines)
    assert lines[-1].startswith(
        'Not finite at first: top blob ip of layer "ip" (InnerProduct), forward (12 of 12 values'
    )
    assert lines[-1].split("Not finite at first: ")[1].split(" (12")[0] in said
    assert sorted(Path().iterdir()) == before


def test_an_iteration_in_which_nothing_breaks(caffe: Caffe) -> None:
    diverge(caffe)
    text = Path("net.prototxt").read_text()
    assert '"ip"' in text
    Path("net.prototxt").write_text(
        text.replace('type: "ReLU"', 'type: "Power" power_param { scale: 0 }')
    )
    run = caffe("train", SOLVER, "--replay=snap_iter_1.replay")
    assert run.messages("I")[-1] == "Every value is finite."


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("-replay=gone",), "gone: No such file or directory."),
        (("-replay=net.prototxt",), "net.prototxt: this is no iteration to run again"),
        (("-replay=x", "-dry_run"), "Give --replay or --dry_run, not both."),
    ],
)
def test_bad_input(caffe: Caffe, flags: tuple[str, ...], said: str) -> None:
    run = caffe("train", SOLVER, *flags)
    assert run.code == 1
    (message,) = run.messages("F")
    assert message.startswith(said)
