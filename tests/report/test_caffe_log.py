from __future__ import annotations

import logging
from typing import get_args

import pytest

from moka.report.caffe_log import lines, log_record, output_text
from moka.report.records import (
    BestSnapshotWritten,
    ClassesTested,
    EarlyStop,
    FinalLoss,
    IterationCompleted,
    Output,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
    TestStarted,
)

LOSS = Output("loss", 0.125, 1.0)
ACCURACY = Output("accuracy", 0.75, 0.0)

SENTENCES: list[tuple[Record, list[str]]] = [
    (SolvingStarted("LeNet", "inv", 0, 100), ["Solving LeNet", "Learning Rate Policy: inv"]),
    (IterationCompleted(7, 0.5, 0.01), []),
    (
        IterationCompleted(
            100,
            2.3025851,
            0.00992565,
            displayed=True,
            outputs=(ACCURACY, LOSS),
            lapse_s=0.5,
            lapse_iterations=100,
            display_every=100,
        ),
        [
            "Iteration 100 (200 iter/s, 0.5s/100 iters), loss = 2.30259",
            "    Train net output #0: accuracy = 0.75",
            "    Train net output #1: loss = 0.125 (* 1 = 0.125 loss)",
            "Iteration 100, lr = 0.00992565",
        ],
    ),
    (
        IterationCompleted(0, 1e-7, 1.0, displayed=True, display_every=20),
        ["Iteration 0 (0 iter/s, 0s/20 iters), loss = 1e-07", "Iteration 0, lr = 1"],
    ),
    (
        IterationCompleted(5, 0.5, 0.01, stage=2),
        ["MultiStep Status: Iteration 5, step = 2"],
    ),
    (
        IterationCompleted(5, 0.5, 0.01, clipped=(8.0, 2.0)),
        [
            "Gradient clipping: scaling down gradients (L2 norm 8 > 2) by scale factor 0.25",
        ],
    ),
    (
        IterationCompleted(5, 1.0, 0.5, displayed=True, stage=1, display_every=5),
        [
            "Iteration 5 (0 iter/s, 0s/5 iters), loss = 1",
            "MultiStep Status: Iteration 5, step = 1",
            "Iteration 5, lr = 0.5",
        ],
    ),
    (
        IterationCompleted(5, 1.0, 0.5, displayed=True, plateau=1, display_every=5),
        [
            "Iteration 5 (0 iter/s, 0s/5 iters), loss = 1",
            "Plateau Status: Iteration 5, step = 1",
            "Iteration 5, lr = 0.5",
        ],
    ),
    (TestStarted(500, 1), ["Iteration 500, Testing net (#1)"]),
    (
        ClassesTested(500, 0, "detection_eval", ((1, 0.5), (3, 0.1234567))),
        ["class1: 0.5", "class3: 0.123457"],
    ),
    (
        TestCompleted(500, 0, (ACCURACY, LOSS), None),
        [
            "    Test net output #0: accuracy = 0.75",
            "    Test net output #1: loss = 0.125 (* 1 = 0.125 loss)",
        ],
    ),
    (TestCompleted(500, 0, (), 0.25), ["Test loss: 0.25"]),
    (
        SnapshotWritten(500, "a.caffemodel", "a.solverstate"),
        [
            "Snapshotting to binary proto file a.caffemodel",
            "Snapshotting solver state to binary proto file a.solverstate",
        ],
    ),
    (
        SnapshotWritten(500, "a.caffemodel.h5", "a.solverstate.h5"),
        [
            "Snapshotting to HDF5 file a.caffemodel.h5",
            "Snapshotting solver state to HDF5 file a.solverstate.h5",
        ],
    ),
    (
        SnapshotWritten(500, "a.caffemodel", "a.solverstate", "a.ema.caffemodel"),
        [
            "Snapshotting to binary proto file a.caffemodel",
            "Snapshotting solver state to binary proto file a.solverstate",
            "Snapshotting averaged weights to binary proto file a.ema.caffemodel",
        ],
    ),
    (
        BestSnapshotWritten(500, "accuracy", 0.98765432, "a_best.caffemodel"),
        ["Best accuracy so far: 0.987654 at iteration 500, kept in a_best.caffemodel"],
    ),
    (
        EarlyStop(900, 4, "accuracy", 0.75, 500),
        ["Stopping at iteration 900: 4 tests without a better accuracy than 0.75 of iteration 500"],
    ),
    (FinalLoss(1000, 0.0123456789), ["Iteration 1000, loss = 0.0123457"]),
    (
        SolvingCompleted(1000, False, 20.0, 1.0),
        ["Optimization Done.", "Waited for data 5.0% of 20 s."],
    ),
    (SolvingCompleted(1000, True, 0.0, 0.0), ["Optimization stopped early."]),
]


@pytest.mark.parametrize(("record", "wanted"), SENTENCES)
def test_sentences(record: Record, wanted: list[str]) -> None:
    assert list(lines(record)) == wanted


def test_every_kind_of_record_has_a_case_here() -> None:
    assert {type(record) for record, _ in SENTENCES} == set(get_args(Record))


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (Output("accuracy", 0.987654321, 0.0), "accuracy = 0.987654"),
        (Output("loss", 0.5, 0.25), "loss = 0.5 (* 0.25 = 0.125 loss)"),
        (Output("loss", float("nan"), 1.0), "loss = nan (* 1 = nan loss)"),
        (Output("loss", -1e10, -2.0), "loss = -1e+10 (* -2 = 2e+10 loss)"),
    ],
)
def test_output_text(output: Output, wanted: str) -> None:
    assert output_text(output) == wanted


def test_log_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "moka"):
        log_record(SolvingStarted("100% net", "fixed", 0, 10))
    assert caplog.messages == ["Solving 100% net", "Learning Rate Policy: fixed"]
    assert {record.name for record in caplog.records} == {"moka.records"}
