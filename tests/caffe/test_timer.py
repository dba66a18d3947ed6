from __future__ import annotations

import pytest

import caffe
from caffe import timer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds the timer sees, one after the other."""
    times = [1.0, 1.25, 4.0, 4.5]
    monkeypatch.setattr(timer, "_now", lambda: times.pop(0))
    return times


def test_milliseconds_from_start_to_stop(clock: list[float]) -> None:
    made = caffe.Timer()
    assert made.ms == 0
    made.start()
    made.stop()
    made.stop()
    assert made.ms == 250
    made.start()
    made.start()
    assert made.ms == 500  # stops it
    assert made.ms == 500
    assert not clock


def test_a_real_clock() -> None:
    made = caffe.Timer()
    made.start()
    assert made.ms > 0
