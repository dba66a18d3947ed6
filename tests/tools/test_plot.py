from __future__ import annotations

from pathlib import Path

import pytest

from moka.cli.main import main as caffe
from moka.draw import charts
from moka.report.readings import TrainingLog
from moka.tools.plot import main, plot, plot_training_log

LINE = "I0507 10:00:0{}.000000 12345 solver.cpp:239] {}\n"
Drawn = list[tuple[list[str], int | None]]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = LINE.format(0, "Solving x")
    text += "".join(LINE.format(i, f"Iteration {i}, loss = {4 - i}") for i in range(4))
    Path("sub").mkdir()
    for name in ("a.log", "b.txt", "sub/a.log"):
        Path(name).write_text(text)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What was drawn: names of logs, and the kind."""
    calls: Drawn = []
    draw = charts.draw

    def record(logs: dict[str, TrainingLog], kind: int | None = None) -> object:
        calls.append((list(logs), kind))
        return draw(logs, kind)

    monkeypatch.setattr(charts, "draw", record)
    return calls


def test_a_picture_beside_the_log(capsys: pytest.CaptureFixture[str], drawn: Drawn) -> None:
    assert main(["sub/a.log"]) == 0
    assert Path("sub/a.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == "Wrote sub/a.png\n"
    assert drawn == [(["a"], None)]


def test_several_logs_and_a_type(drawn: Drawn) -> None:
    assert caffe(["plot", "a.log", "b.txt", "-o", "x.svg", "--type", "train-loss"]) == 0
    assert b"<svg" in Path("x.svg").read_bytes()
    assert drawn == [(["a", "b.txt"], 6)]


def test_logs_of_one_name_are_told_apart_by_their_folders(drawn: Drawn) -> None:
    plot(["a.log", "sub/a.log"], "x.png")
    assert drawn == [(["a.log", "sub/a.log"], None)]


def test_the_classic_arguments(drawn: Drawn, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot_training_log(["7", "x.png", "a.log", "b.txt"]) == 0
    assert Path("x.png").exists()
    assert drawn == [(["a", "b.txt"], 7)]
    assert plot_training_log(["9", "x.png", "a.log"]) == 1
    assert "there is no chart '9', only:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["gone.log"], "gone.log: cannot be read: No such file or directory."),
        (
            ["a.log", "--type", "0"],
            "there is nothing for 'Test accuracy vs. Iters' in a",
        ),
        (["a.log", "-o", "x"], "x: a picture's name ends in "),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert main(argv) == 1
    assert capsys.readouterr().err.splitlines()[-1].partition("] ")[2].startswith(says)


def test_a_run_as_json(drawn: Drawn) -> None:
    Path("run.jsonl").write_text(
        "".join(
            f'{{"record": "IterationCompleted", "time_s": {i}, "iteration": {i}, "loss": {4 - i},'
            ' "rate": 0.1, "displayed": true, "display_every": 1, "outputs": []}\n'
            for i in range(4)
        )
    )
    assert main(["run.jsonl", "a.log", "-o", "x.png"]) == 0
    assert drawn == [(["run.jsonl", "a"], None)]


@pytest.mark.parametrize("argv", [[], ["--type", "1"]])
def test_no_log(argv: list[str]) -> None:
    assert main(argv) == 2


@pytest.mark.parametrize("program", [main, plot_training_log])
def test_help_names_the_types(program: type, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["--help"]) == 0
    out = capsys.readouterr().out
    for i, title in enumerate(charts.TITLES):
        assert f"  {i}  {title}\n" in out
