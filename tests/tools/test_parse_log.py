from __future__ import annotations

from math import isnan, nan
from pathlib import Path

import pytest

from moka.cli.main import main as caffe
from moka.errors import DataError, UsageError
from moka.report.readings import Reading
from moka.tools.parse_log import (
    first_loss,
    fix_initial_nan_learning_rate,
    main,
    parse_log,
    save_csv_files,
    write_csv,
)

OUTPUTS = {"Train": ("loss",), "Test": ("accuracy", "loss")}


def message(text: str, second: int) -> str:
    return f"I0507 10:00:{second:02d}.000000 12345 solver.cpp:239] {text}\n"


def log(iterations: int, tests: tuple[int, ...] = ()) -> str:
    """A display each iteration, 2 s apart: loss 0.25 smaller each time, rate halved."""
    text = message("Solving LeNet", 0)
    for i in range(iterations):
        if i in tests:
            text += message(f"Iteration {i}, Testing net (#0)", 2 * i)
            text += message(f"    Test net output #0: accuracy = {i / 8}", 2 * i)
            text += message("    Test net output #1: loss = 3 (* 1 = 3 loss)", 2 * i)
        text += message(f"Iteration {i} (1 iter/s, 1s/1 iters), loss = {4 - i / 4}", 2 * i + 1)
        text += message("    Train net output #0: loss = 5 (* 1 = 5 loss)", 2 * i + 1)
        text += message(f"Iteration {i}, lr = {0.5**i}", 2 * i + 1)
    return text


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.log").write_text(log(4, (0, 2)))


def test_rows() -> None:
    train, test = parse_log("train.log")
    assert train == [
        {"NumIters": 0.0, "Seconds": 1.0, "LearningRate": 1.0, "loss": 5.0},
        {"NumIters": 1.0, "Seconds": 3.0, "LearningRate": 1.0, "loss": 5.0},
        {"NumIters": 2.0, "Seconds": 5.0, "LearningRate": 0.5, "loss": 5.0},
        {"NumIters": 3.0, "Seconds": 7.0, "LearningRate": 0.25, "loss": 5.0},
    ]
    assert test == [
        {"NumIters": 0.0, "Seconds": 0.0, "LearningRate": 0.5, "accuracy": 0.0, "loss": 3.0},
        {"NumIters": 2.0, "Seconds": 4.0, "LearningRate": 0.5, "accuracy": 0.25, "loss": 3.0},
    ]


def test_the_first_row_takes_the_rate_of_the_second() -> None:
    rows = [{"LearningRate": rate} for rate in (nan, 2.0, 3.0)]
    fix_initial_nan_learning_rate(rows)
    assert [row["LearningRate"] for row in rows] == [2.0, 2.0, 3.0]
    rows = [{"LearningRate": nan}]
    fix_initial_nan_learning_rate(rows)
    assert isnan(rows[0]["LearningRate"])
    fix_initial_nan_learning_rate([])


def test_csv_files() -> None:
    assert main(["train.log", "a/b"]) == 0
    assert Path("a/b/train.log.test").read_text() == (
        "NumIters,Seconds,LearningRate,accuracy,loss\n0.0,0.0,0.5,0.0,3.0\n2.0,4.0,0.5,0.25,3.0\n"
    )
    assert Path("a/b/train.log.train").read_text().splitlines()[1] == "0.0,1.0,1.0,5.0"


def test_one_row_is_kept() -> None:
    Path("train.log").write_text(log(1, (0,)))
    train, test = parse_log("train.log")
    assert [len(train), len(test)] == [1, 1]
    assert isnan(train[0]["LearningRate"])


def test_a_last_row_that_was_cut_off_is_left_out() -> None:
    text = log(3, (0, 1, 2))
    Path("train.log").write_text(text[: text.rindex("    Test net output #1")])
    train, test = parse_log("train.log")
    assert [row["NumIters"] for row in train] == [0.0, 1.0]
    assert [row["NumIters"] for row in test] == [0.0, 1.0]


def test_a_row_with_other_columns_leaves_blanks() -> None:
    write_csv("x", [{"a": 1.0, "b": 2.0}, {"a": 3.0}, {"a": 4.0, "c": 5.0}])
    assert Path("x").read_text() == "a,b,c\n1.0,2.0,\n3.0,,\n4.0,,5.0\n"


def test_no_file_for_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.log").write_text(log(2))
    assert main(["train.log", "out", "--verbose"]) == 0
    assert [path.name for path in Path("out").iterdir()] == ["train.log.train"]
    assert capsys.readouterr().out == (
        "Wrote out/train.log.train\nNot writing out/train.log.test; no lines to write\n"
    )
    assert main(["train.log", "out"]) == 0
    assert capsys.readouterr().out == ""


def test_delimiter() -> None:
    assert main(["train.log", ".", "--delimiter", ";"]) == 0
    assert Path("train.log.train").read_text().startswith("NumIters;Seconds;")
    with pytest.raises(UsageError, match=r"^--delimiter takes one character, found ',,'\.$"):
        save_csv_files("train.log", ".", *parse_log("train.log"), delimiter=",,")


def test_tables() -> None:
    assert main(["train.log", ".", "--tables"]) == 0
    train = [row.split() for row in Path("train.log.train").read_text().splitlines()]
    assert train == [
        ["#Iters", "Seconds", "TrainingLoss", "LearningRate"],
        ["0", "1.000000", "4", "1"],
        ["1", "3.000000", "3.75", "0.5"],
        ["2", "5.000000", "3.5", "0.25"],
        ["3", "7.000000", "3.25", "0.125"],
    ]
    test = [row.split() for row in Path("train.log.test").read_text().splitlines()]
    assert test == [
        ["#Iters", "Seconds", "TestAccuracy", "TestLoss"],
        ["0", "0.000000", "0", "3"],
        ["2", "4.000000", "0.25", "3"],
    ]


def test_what_a_table_takes_of_a_test() -> None:
    reading = Reading(0, 0.0, nan, outputs={"l1": 1.0, "top1": 2.0, "top5": 3.0}, losses={"l1"})
    assert first_loss(reading, losses=True) == 1.0
    assert first_loss(reading, losses=False) == 2.0
    assert isnan(first_loss(Reading(0, 0.0, nan), losses=True))


@pytest.mark.parametrize("name", ["parse_log", "parse-log"])
def test_it_is_a_command_of_caffe(name: str) -> None:
    assert caffe([name, "train.log", "out"]) == 0
    assert Path("out/train.log.train").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["gone.log", "out"], "gone.log: cannot be read: No such file or directory."),
        (["empty", "out"], "empty: this log names no iteration. Give what"),
        (["train.log", "empty"], "empty cannot be made: File exists."),
        (["train.log", "taken"], "taken/train.log.train cannot be written: Is a dir"),
        (["train.log", "taken", "--tables"], "taken/train.log.train cannot be written"),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    Path("empty").touch()
    Path("taken/train.log.train").mkdir(parents=True)
    assert main(argv) == 1
    assert capsys.readouterr().err.splitlines()[-1].partition("] ")[2].startswith(says)


@pytest.mark.parametrize("argv", [[], ["a", "b", "c"]])
def test_a_wrong_number_of_arguments(argv: list[str]) -> None:
    assert main(argv) == 2  # as BVLC's script ends


def test_one_argument_is_parse_log_sh(tmp_path: Path) -> None:
    """The tables with blanks, beside the log."""
    Path("sub").mkdir()
    Path("sub/x.log").write_text(log(4, (0, 2)))
    assert main(["sub/x.log"]) == 0
    assert main(["train.log"]) == 0
    for name in ("sub/x.log", "train.log"):
        assert Path(f"{name}.train").read_text().startswith("#Iters         Seconds ")
        assert Path(f"{name}.test").read_text().startswith("#Iters         Seconds ")
    assert main(["train.log", ".", "--tables"]) == 0
    assert Path("train.log.train").read_text() == Path("sub/x.log.train").read_text()


def test_no_iteration() -> None:
    Path("train.log").write_text("nothing\n")
    with pytest.raises(DataError, match="names no iteration"):
        parse_log("train.log")


def test_a_log_without_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.log").write_text(message("Iteration 20, loss = 4", 1))
    assert main(["old.log", "."]) == 0
    assert "old.log: its lines name no outputs of the nets" in capsys.readouterr().err
    assert not Path("old.log.train").exists()
    assert main(["train.log", "."]) == 0
    assert not capsys.readouterr().err


def test_a_loss_without_outputs_is_no_row() -> None:
    last = message("Iteration 9, loss = 1", 30)
    Path("train.log").write_text(log(3) + last + log(2))
    assert [row["NumIters"] for row in parse_log("train.log")[0]] == [0.0, 1.0, 2.0, 0.0, 1.0]
    assert main(["train.log", ".", "--tables"]) == 0
    assert Path("train.log.train").read_text().splitlines()[4].split()[::3] == ["9", "nan"]
