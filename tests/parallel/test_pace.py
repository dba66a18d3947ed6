from __future__ import annotations

import logging

import pytest

from moka.parallel import pace
from moka.parallel.pace import Pace, Slowest
from moka.parallel.team import Alone


class Told(Alone):
    """A team whose members tell these numbers; the first one is this process."""

    def __init__(self, *others: float) -> None:
        super().__init__(0, 1 + len(others))
        self.others = others
        self.own: list[float] = []

    @property
    def is_connected(self) -> bool:
        return True

    def gather_numbers(self, *own: float) -> dict[int, tuple[float, ...]]:
        self.own += own
        return dict(enumerate([own, *((number,) for number in self.others)]))

    def gather_messages(self, own: bytes) -> dict[int, bytes]:
        return {rank: b"host%d" % rank for rank in range(self.size)}


class Clock:
    now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


def work(measured: Pace, clock: Clock, *, own_s: float, waiting_s: float) -> None:
    """An iteration."""
    measured.start()
    clock.now_s += own_s + waiting_s
    measured.team.waited_s += waiting_s
    measured.stop()


def test_waiting_for_others_is_no_work(clock: Clock) -> None:
    team = Told(0.5, 0.25)
    measured = Pace(team)
    work(measured, clock, own_s=0.25, waiting_s=0.25)
    clock.now_s += 7  # a test, or a snapshot
    work(measured, clock, own_s=0.75, waiting_s=0.125)
    assert measured.compare() == Slowest(0, "host0", 0.5, 0.5)
    work(measured, clock, own_s=0.125, waiting_s=0.375)
    assert measured.compare() == Slowest(1, "host1", 0.5, 0.25)
    assert team.own == [0.5, 0.125]


def test_alone_nobody_is_slow(clock: Clock) -> None:
    measured = Pace(Alone())
    work(measured, clock, own_s=1, waiting_s=0)
    assert measured.compare() is None


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ((1.6,), True),
        ((1.4,), False),
        ((1.0, 1.0, 2.0), True),
        ((1.9, 2.0, 2.1), False),  # this one is fast, and so nobody is slow
    ],
)
def test_a_process_that_is_slow_for_long_is_named(
    clock: Clock, caplog: pytest.LogCaptureFixture, others: tuple[float, ...], named: bool
) -> None:
    measured = Pace(Told(*others))
    for turn in range(5):
        work(measured, clock, own_s=1, waiting_s=1)
        measured.compare()
        assert len(caplog.records) == (named and turn >= 2)
    if named:
        (record,) = caplog.records
        rank = len(others)
        assert record.levelno == logging.WARNING
        assert f"Process {rank} of {rank + 1} (on host{rank}) holds up the others" in caplog.text
        assert f"works {others[-1]:g} s an iteration, the median is 1 s" in caplog.text


def test_a_process_that_is_slow_now_and_then_is_not_named(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    team = Told(1, 1)
    measured = Pace(team)
    for others in [(9, 1), (1, 9), (9, 1), (9, 1), (1, 1), (9, 1), (9, 1)]:
        team.others = others
        work(measured, clock, own_s=1, waiting_s=0)
        measured.compare()
    assert not caplog.records
