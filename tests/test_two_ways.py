from __future__ import annotations

from collections.abc import Sequence

import pytest

from moka.two_ways import TRIAL_S, TRY_EVERY_S, TRY_EVERY_S_AT_LAST, TwoWays


class Work:
    """Pieces of work that take so many seconds either way."""

    def __init__(self, first_s: float, second_s: float) -> None:
        self.seconds: Sequence[float] = (first_s, second_s)
        self.now_s = 0.0
        self.spent_s = [0.0, 0.0]
        self.ways = TwoWays()

    def run(self, seconds: float) -> None:
        end = self.now_s + seconds
        while self.now_s < end:
            way = self.ways.way
            self.now_s += self.seconds[way]
            self.spent_s[way] += self.seconds[way]
            self.ways.took(self.seconds[way])


def test_the_second_way_if_it_is_faster() -> None:
    work = Work(0.050, 0.020)
    work.run(60)
    assert work.ways.way == 1
    assert work.spent_s[1] > 0.85 * 60


def test_the_first_way_if_it_is_faster() -> None:
    work = Work(0.006, 0.010)
    work.run(60)
    assert work.ways.way == 0
    assert work.spent_s[0] > 0.94 * 60


def test_it_follows_the_machine() -> None:
    work = Work(0.006, 0.010)
    work.run(20)
    work.seconds = (0.050, 0.020)
    work.run(2 * TRY_EVERY_S)
    assert work.ways.way == 1
    work.seconds = (0.006, 0.010)
    work.run(2 * TRY_EVERY_S)
    assert work.ways.way == 0


def test_a_small_gain_changes_nothing() -> None:
    work = Work(0.010, 0.0095)
    work.run(60)
    assert work.spent_s[0] > 0.9 * 60


def test_a_hopeless_trial_is_two_pieces() -> None:
    work = Work(0.004, 0.040)
    work.run(1.5 * TRY_EVERY_S)
    assert work.spent_s[1] == pytest.approx(2 * 0.040)


def test_trials_that_gain_nothing_become_rare() -> None:
    work = Work(0.004, 0.040)
    work.run(10 * TRY_EVERY_S)  # trials after 1, 2 and 4 times so long
    assert work.spent_s[1] == pytest.approx(3 * 2 * 0.040)
    work.run(10 * TRY_EVERY_S_AT_LAST)
    assert work.spent_s[1] < 14 * 2 * 0.040


def test_a_change_ends_the_wait_for_a_trial() -> None:
    work = Work(0.006, 0.010)
    work.run(5 * TRY_EVERY_S_AT_LAST)
    work.seconds = (0.012, 0.010)
    work.run(2 * TRY_EVERY_S)
    assert work.ways.way == 1


def test_the_second_way_is_tried_if_it_may() -> None:
    work = Work(0.006, 0.003)
    work.ways = TwoWays(lambda: False)
    work.run(10 * TRY_EVERY_S)
    assert work.spent_s[1] == 0
    asked: list[float] = []

    def may() -> bool:
        asked.append(work.now_s)
        return True

    work.ways = TwoWays(may)
    work.run(10 * TRY_EVERY_S)
    assert work.ways.way == 1
    assert len(asked) == 1  # the way back is tried without a question


def test_the_first_piece_of_a_trial_is_not_counted() -> None:
    """It may have to make what the others find."""
    work = Work(0.050, 1.0)
    while work.ways.way == 0:
        work.run(0.05)
    work.run(0.05)
    work.seconds = (0.050, 0.020)
    work.run(2 * TRIAL_S)
    assert work.ways.way == 1


def test_short_pieces() -> None:
    """They are counted together; a trial of them is as long as of others."""
    work = Work(0.0002, 0.0001)
    work.run(2 * TRY_EVERY_S)
    assert work.ways.way == 1
    work = Work(0.0001, 0.0002)
    work.run(2 * TRY_EVERY_S)
    assert work.ways.way == 0
    assert work.spent_s[1] == pytest.approx(TRIAL_S, rel=0.01)
