from __future__ import annotations

from math import inf, isnan, nan
from typing import TYPE_CHECKING

import pytest

from moka.errors import SolverError
from moka.report.records import Output
from moka.schema import caffe_pb2, parse_text
from moka.solver.best_test import BestTest, check_best

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NET = """
layer { name: "in" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" top: "loss" }
layer { name: "right" type: "Accuracy" bottom: "x" bottom: "t" top: "accuracy" }
layer { name: "many" type: "Softmax" bottom: "x" top: "many" }
"""
OTHER = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "sum" type: "Reduction" bottom: "x" top: "sum" }
"""


def config(text: str) -> caffe_pb2.SolverParameter:
    return parse_text(text, caffe_pb2.SolverParameter)


def see(best: BestTest, value: float, iteration: int = 0) -> bool:
    return best.see([Output("other", 5.0, 0.0), Output("it", value, 0.0)], iteration)


@pytest.mark.parametrize(
    ("lower", "values", "wanted"),
    [
        (False, [1.0, 2.0, 2.0, 1.0, 3.0], [True, True, False, False, True]),
        (True, [1.0, 2.0, 1.0, 0.5, 3.0], [True, False, False, True, False]),
        (False, [nan, 0.0, nan, 1.0], [False, True, False, True]),
        (True, [inf, -1.0], [True, True]),
    ],
)
def test_what_is_better(lower: bool, values: list[float], wanted: list[bool]) -> None:
    best = BestTest("it", 0, lower=lower, patience=0)
    assert [see(best, value) for value in values] == wanted
    assert not best.exhausted


def test_when_it_is_exhausted() -> None:
    best = BestTest("it", 0, lower=False, patience=2)
    found = []
    for iteration, value in enumerate([1.0, 0.0, 2.0, 1.0, 1.0, 3.0]):
        see(best, value, iteration)
        found.append((best.value, best.iteration, best.tests_since, best.exhausted))
    assert found == [
        (1.0, 0, 0, False),
        (1.0, 0, 1, False),
        (2.0, 2, 0, False),
        (2.0, 2, 1, False),
        (2.0, 2, 2, True),
        (3.0, 5, 0, False),
    ]


def test_tests_that_begin_with_nan_count_from_the_first() -> None:
    best = BestTest("it", 0, lower=False, patience=3)
    found = []
    for iteration in range(3):
        see(best, nan, iteration)
        found.append((best.tests_since, best.exhausted))
    assert found == [(1, False), (2, False), (3, True)]


def test_state() -> None:
    best, again = (BestTest("it", 0, lower=False, patience=2) for _ in range(2))
    again.load_state(best.state())
    assert isnan(again.value)
    see(best, 0.1, 7)
    see(best, 0.05, 9)
    again.load_state(caffe_pb2.SolverState.FromString(best.state().SerializeToString()))
    assert (again.value, again.iteration, again.tests_since) == (0.1, 7, 1)


@pytest.mark.parametrize(
    ("text", "index", "lower"),
    [
        ('snapshot_best: "loss"', 1, True),
        ('snapshot_best: "accuracy"', 1, False),
        ('snapshot_best: "loss" snapshot_best_is: HIGHER', 1, False),
        ('snapshot_best: "accuracy" snapshot_best_is: LOWER', 1, True),
        ('snapshot_best: "sum"', 0, False),
    ],
)
def test_which_output_is_compared(make_net: NetMaker, text: str, index: int, lower: bool) -> None:
    best = BestTest.of(config(text + " early_stop: 4"), [make_net(OTHER), make_net(NET)])
    assert best is not None
    assert (best.net_index, best.lower, best.patience) == (index, lower, 4)


def test_no_output_is_compared_unless_asked(make_net: NetMaker) -> None:
    assert BestTest.of(config(""), [make_net(NET)]) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "acuracy",
            r'output acuracy \(outputs: accuracy, loss, many.*Did you mean "accuracy"',
        ),
        ("x", "no test net has an output x"),  # a blob that others use
        ("many", "output many has 6 numbers, one is wanted"),
    ],
)
def test_what_cannot_be_compared(make_net: NetMaker, name: str, says: str) -> None:
    with pytest.raises(SolverError, match=says):
        BestTest.of(config(f'snapshot_best: "{name}"'), [make_net(NET)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("early_stop: 3", "early_stop needs snapshot_best"),
        ("snapshot_best_is: LOWER", "snapshot_best_is needs snapshot_best"),
        ('snapshot_best: "loss" test_iter: 1 early_stop: -1', "early_stop must be >= 0, got -1"),
        ('snapshot_best: "loss"', "snapshot_best needs a test"),
        ('snapshot_best: "loss" test_iter: 0', "snapshot_best needs a test"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    check_best(config('snapshot_best: "loss" test_iter: 1 early_stop: 3'))
    check_best(config("early_stop: 0"))
    with pytest.raises(SolverError, match=says):
        check_best(config(text))
