from __future__ import annotations

from pathlib import Path

import pytest

from moka.cli.main import main as caffe
from moka.tools.summarize import main

NET = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "a_database_that_is_not_here" batch_size: 4 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        param { name: "w" lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss"
        loss_weight: 0.3 }
layer { name: "accuracy" type: "Accuracy" bottom: "conv" bottom: "label" top: "accuracy"
        include { phase: TEST } }
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)


def rows(out: str) -> list[list[str]]:
    """The cells of the table's rows."""
    lines = [line for line in out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["net.prototxt"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("small: 4 layers")
    assert rows(out) == [
        ["data", "Data (TRAIN)", "", "data, label", ""],
        ["conv", "Convolution", "data", "conv", "w lr 1 decay 1; lr 2 decay 0"],
        ["loss", "SoftmaxWithLoss", "conv, label", "loss * 0.3", ""],
        ["accuracy", "Accuracy (TEST)", "conv, label", "accuracy", ""],
    ]


def test_one_phase(capsys: pytest.CaptureFixture[str]) -> None:
    assert caffe(["summarize", "net.prototxt", "--phase=TEST"]) == 0
    assert [row[0] for row in rows(capsys.readouterr().out)] == ["conv", "loss", "accuracy"]


def test_a_net_of_2013(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.prototxt").write_text('layers { name: "r" type: RELU bottom: "x" top: "y" }')
    assert main(["net.prototxt"]) == 0
    assert rows(capsys.readouterr().out) == [["r", "ReLU", "x", "y", ""]]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["gone.prototxt"], "gone.prototxt"),
        (["net.prototxt", "--phase=ANY"], "--phase is TRAIN, TEST or ALL, found 'ANY'."),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert main(argv) == 1
    assert says in capsys.readouterr().err
