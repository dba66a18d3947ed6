from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from math import isnan, nan
from pathlib import Path

import pytest

from moka.errors import DataError
from moka.report.log_file import read_log
from moka.report.readings import TrainingLog


def line(message: str, time: str = "00:00:00.000000", date: str = "0507") -> str:
    return f"I{date} {time} 12345 solver.cpp:239] {message}"


def read(lines: Iterable[str], end: str = "\n") -> TrainingLog:
    Path("train.log").write_bytes("".join(f"{each}{end}" for each in lines).encode())
    return read_log("train.log")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


RUN = [
    "caffe: not a line of a log",
    line("Creating Layer conv1", "09:00:00.000000"),
    line("Solving LeNet", "10:00:00.500000"),
    line("Learning Rate Policy: step", "10:00:00.500001"),
    line("Iteration 0, Testing net (#0)", "10:00:01.000000"),
    line("    Test net output #0: accuracy = 0.125", "10:00:01.500000"),
    line("    Test net output #1: loss = 2.5 (* 1 = 2.5 loss)", "10:00:01.500100"),
    line("Iteration 0 (0 iter/s, 0s/10 iters), loss = 2.25", "10:00:02.000000"),
    line("    Train net output #0: loss = 2 (* 1 = 2 loss)", "10:00:02.250000"),
    line("Iteration 0, lr = 0.1", "10:00:02.300000"),
    line("Iteration 10, loss = 1.5", "10:00:03.000000"),
    line("    Train net output #0: loss = 1e-02 (* 1 = 1e-02 loss)", "10:00:03.250000"),
    line("Iteration 10, lr = 0.01", "10:00:03.300000"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_a_log_says(end: str) -> None:
    log = read(RUN, end)
    (test,) = log.tests
    assert (test.iteration, test.seconds, test.outputs) == (
        0,
        1.0,
        {"accuracy": 0.125, "loss": 2.5},
    )
    assert test.losses == {"loss"}
    assert isnan(test.rate_before)
    assert isnan(test.loss)
    first, second = log.displays
    assert (first.iteration, first.seconds, first.loss, first.rate) == (0, 1.75, 2.25, 0.1)
    assert (second.iteration, second.seconds, second.loss, second.rate) == (10, 2.75, 1.5, 0.01)
    assert first.outputs == {"loss": 2.0}
    assert second.outputs == {"loss": 0.01}
    assert isnan(first.rate_before)
    assert second.rate_before == 0.1


@pytest.mark.parametrize(
    "before", ["", "[1,0]<stderr>:", "2026-05-07T10:00:00Z "], ids=["none", "mpi", "docker"]
)
def test_what_stands_before_a_line(before: str) -> None:
    log = read(
        [before + line("Solving x"), before + line("Iteration 3, loss = 1", "00:00:02.000000")]
    )
    assert [(r.iteration, r.seconds, r.loss) for r in log.displays] == [(3, 2.0, 1.0)]


def test_nvcaffe() -> None:
    log = read(
        [
            line("Solving x"),
            line("Iteration 100 (10.2 iter/s, 9.8s/100 iter), 4.1/200ep, loss = 1.25"),
            line("[0] Train net output #0: loss1 = 1.5 (* 0.3 = 0.45 loss)"),
            line("Iteration 100, lr = 0.01, m = 0.9, lrm = 0.1, wd = 0.0005, gs = 1"),
            line("Iteration 200, Testing net (#0)"),
            line("    Test net output #0: accuracy = 0.5"),
        ]
    )
    (display,) = log.displays
    assert (display.loss, display.rate, display.outputs) == (1.25, 0.01, {"loss1": 1.5})
    assert [(t.iteration, t.rate_before, t.outputs) for t in log.tests] == [
        (200, 0.01, {"accuracy": 0.5})
    ]


def test_nvcaffe_on_several_devices() -> None:
    log = read(
        [
            line("[0.0] Solving x"),
            line("[0.0] Iteration 2 (3.8928 s), loss = 5.08295"),
            line("[0.0]     Train net output #0: mbox_loss = 5.46751 (* 1 = 5.46751 loss)"),
            line("[0.0] Iteration 2, lr = 0.0001, m = 0.9, wd = 0.0004, gs = 1"),
        ]
    )
    (display,) = log.displays
    assert (display.iteration, display.loss, display.rate) == (2, 5.08295, 0.0001)
    assert display.outputs == {"mbox_loss": 5.46751}


def test_vectors_and_several_test_nets() -> None:
    def test(iteration: int, net: int, *values: float) -> list[str]:
        outputs = (f"    Test net output #{i}: per_class = {v}" for i, v in enumerate(values))
        return [line(f"Iteration {iteration}, Testing net (#{net})"), *map(line, outputs)]

    log = read(
        each for i in (0, 10) for net in (0, 1) for each in test(i, net, net + 0.25, net + 0.5)
    )
    wanted = {"per_class": 0.25, "per_class.1": 0.5, "per_class.2": 1.25, "per_class.3": 1.5}
    assert [(t.iteration, t.outputs) for t in log.tests] == [(0, wanted), (10, wanted)]


def test_a_run_that_goes_on_at_the_iteration_where_it_stopped() -> None:
    display = [
        line("Iteration 30, Testing net (#0)"),
        line("    Test net output #0: accuracy = 0.5"),
        line("Iteration 30 (1 iter/s, 1s/10 iters), loss = 1"),
        line("    Train net output #0: loss = 1 (* 1 = 1 loss)"),
    ]
    log = read([line("Solving x"), *display, line("Solving x"), *display])
    assert [(r.iteration, r.outputs) for r in log.displays] == [(30, {"loss": 1.0})] * 2
    assert [(r.iteration, r.outputs) for r in log.tests] == [(30, {"accuracy": 0.5})] * 2


def test_a_new_run_without_a_loss_line_between() -> None:
    output = line("    Train net output #0: loss = 1 (* 1 = 1 loss)")
    log = read([line("Solving x"), line("Iteration 0, lr = 1"), output, line("Solving x"), output])
    assert [r.outputs for r in log.displays] == [{"loss": 1.0}] * 2


@pytest.mark.parametrize(
    ("dates", "days"),
    [
        (("0507", "0508"), 1),
        (("1231", "0101"), 1),
        (("20251231", "20260101"), 1),
        (("20231231", "20260101"), 732),
        (("0228", "0229"), 1),
        (("0228", "0301"), 1),
        (("0229", "0301"), 1),
        (("1231", "0229"), 60),
    ],
)
def test_days(dates: tuple[str, str], days: int) -> None:
    lines = [line("Solving x", date=dates[0]), line("Iteration 1, loss = 1", date=dates[1])]
    read(lines)
    when = datetime(2026, 6, 1).timestamp()
    os.utime("train.log", (when, when))
    assert read_log("train.log").displays[0].seconds == days * 86400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("1e-05", 1e-5),
        ("-3.5e+10", -3.5e10),
        ("1.", 1.0),
        ("inf", float("inf")),
        ("-inf", float("-inf")),
        ("nan", nan),
        ("-nan", nan),
        ("-nan(ind)", nan),
    ],
)
def test_numbers(text: str, value: float) -> None:
    log = read([line("Solving x"), line(f"Iteration 1, loss = {text}")])
    assert log.displays[0].loss == pytest.approx(value, nan_ok=True)
    log = read([line("Iteration 1"), line(f"  Test net output #0: a = {text} (* 1 = {text} loss)")])
    assert log.tests[0].outputs == {"a": pytest.approx(value, nan_ok=True)}


@pytest.mark.parametrize(
    "tail", ["Iteration 1", "Iteration 1, loss = 1e-", "I0507 10:00", "\x00\xff"]
)
def test_a_log_that_breaks_off(tail: str) -> None:
    log = read([*RUN, line(tail)[: None if "\x00" in tail else 200]])
    assert [r.iteration for r in log.displays] == [0, 10]


def test_a_log_without_its_beginning() -> None:
    log = read(
        [
            line("Iteration 50, loss = 1", "10:00:00.000000"),
            line("Iteration 60, loss = 1", "10:00:05.000000"),
        ]
    )
    assert [r.seconds for r in log.displays] == [0.0, 5.0]


def test_impossible_dates_are_skipped() -> None:
    log = read(
        [
            line("Solving x"),
            line("Iteration 1, loss = 1", date="1345"),
            line("Iteration 2, loss = 1"),
        ]
    )
    assert [r.iteration for r in log.displays] == [2]


def test_utf16_as_powershell_writes_it() -> None:
    Path("train.log").write_bytes("\r\n".join(RUN).encode("utf-16"))
    assert [r.iteration for r in read_log("train.log").displays] == [0, 10]


@pytest.mark.parametrize("name", ["loss: 50%-fire-rate", "a = b", "a b"])
def test_a_name_goes_up_to_its_value(name: str) -> None:
    outputs = [f"{name} = 2.5 (* 1 = 2.5 loss)", f"{name} = 0.5"]
    log = read([line("Iteration 1"), *(line(f"  Train net output #0: {o}") for o in outputs)])
    assert log.displays[0].outputs == {name: 2.5, f"{name}.1": 0.5}


def test_losses_are_known_by_their_weight_or_their_name() -> None:
    names = ["top", "top1 = 0.5 (* 2 = 1 loss)", "MyLoss = 1", "accuracy = 1"]
    outputs = [line(f"  Test net output #{i}: {n}") for i, n in enumerate(names[1:])]
    log = read([line("Iteration 1"), *outputs])
    assert log.tests[0].losses == {"top1", "MyLoss"}


@pytest.mark.parametrize(
    "lines",
    [[], ["hello"], [line("Solving x")], [line("Iteration: 1 forward-backward time: 1 ms.")]],
)
def test_no_training_run(lines: list[str]) -> None:
    with pytest.raises(DataError, match=r"^train\.log: this log names no iteration\. Give what"):
        read(lines)


def test_no_file() -> None:
    with pytest.raises(
        DataError, match=r"^gone\.log: cannot be read: No such file or directory\.$"
    ):
        read_log("gone.log")
