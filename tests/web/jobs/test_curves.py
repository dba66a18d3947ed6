"""Curves in few points."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from moka.report.readings import Reading
from moka.web.jobs.curves import Curves, Series, reduced, smoothed


def series(values: list[float]) -> Series:
    made = Series("loss", "loss")
    for i, value in enumerate(values):
        made.add(10 * i, i / 2, value)
    return made


def test_few_numbers_stay_as_they_are() -> None:
    shown = reduced(series([3, 2, 1]), 5)
    assert shown["iterations"] == [0, 10, 20]
    assert shown["seconds"] == [0, 0.5, 1]
    assert (shown["y"], shown["low"], shown["high"]) == ([3, 2, 1], [], [])


def test_many_numbers_are_told_in_groups() -> None:
    shown = reduced(series([1, 5, 3, 9, 7, 2]), 3)
    assert shown["iterations"] == [10, 30, 50]
    assert shown["y"] == [3, 6, 4.5]
    assert shown["low"] == [1, 3, 2]
    assert shown["high"] == [5, 9, 7]


def test_no_peak_is_lost() -> None:
    values = [1.0] * 100_000
    values[54_321] = 99.0
    shown = reduced(series(values), 400)
    assert len(shown["y"]) == 400
    assert max(shown["high"]) == 99
    assert shown["iterations"][-1] == 999_990


def test_numbers_that_are_none_leave_the_others() -> None:
    shown = reduced(series([nan, 2, nan, nan, 4, 6]), 3)
    assert np.array_equal(shown["y"], [2, nan, 5], equal_nan=True)
    assert shown["low"][0] == 2


def test_smoothing_by_hand() -> None:
    values = np.array([4.0, nan, 2.0, inf, 1.0])
    m = [4.0, (4 * 0.5 + 2) / 1.5, (4 * 0.25 + 2 * 0.5 + 1) / 1.75]
    assert np.allclose(smoothed(values, 0.5), [m[0], nan, m[1], inf, m[2]], equal_nan=True)
    assert smoothed(values, 0) is values


def test_a_constant_stays_one() -> None:
    assert np.allclose(smoothed(np.full(50, 3.0), 0.9), 3.0)


@pytest.mark.parametrize("points", [2, 100])
def test_smoothed_curves_show_what_lies_behind(points: int) -> None:
    values = [float(i % 2) for i in range(50)]
    shown = reduced(series(values), points, 0.9)
    assert min(shown["low"]) == 0
    assert max(shown["high"]) == 1
    assert 0.4 < shown["y"][-1] < 0.6


def test_a_resumed_run_replaces_what_came_after_its_snapshot() -> None:
    made = series([5, 4, 3, 2])
    made.add(15, 9.0, 3.5)
    assert list(made.iterations) == [0, 10, 15]
    assert list(made.values) == [5, 4, 3.5]


def test_readings_become_series() -> None:
    curves = Curves()
    shown = Reading(0, 0.0, nan, 0.1, 2.5, {"loss": 2.4}, {"loss"})
    tested = Reading(0, 0.0, nan, outputs={"accuracy": 0.1, "loss": 2.0}, losses={"loss"})
    curves.add([shown], [tested])
    kinds = {name: each.kind for name, each in curves.items()}
    assert kinds == {
        "loss": "loss",
        "rate": "rate",
        "train:loss": "loss",
        "test:accuracy": "output",
        "test:loss": "loss",
    }
    assert curves.last("test:accuracy") == 0.1
    assert curves.last("nothing") is None


def test_what_is_noisy() -> None:
    noisy = [("loss", "loss"), ("train:accuracy", "output")]
    exact = [("rate", "rate"), ("test:loss", "loss"), ("test:accuracy", "output")]
    assert all(Series(*each).is_noisy for each in noisy)
    assert not any(Series(*each).is_noisy for each in exact)
