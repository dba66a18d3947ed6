from __future__ import annotations

import pytest

from moka.inference import turns
from moka.inference.turns import seconds_in_turns


class Machine:
    """A clock that goes on by hand, and threads that compute for a while after each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spins_s: float = 0.0) -> None:
        self.now_s = self.busy_until_s = 0.0
        self.spins_s = spins_s
        self.order: list[str] = []
        self.disturbed = 0
        monkeypatch.setattr(turns, "perf_counter", lambda: self.now_s)
        monkeypatch.setattr(turns, "process_time", lambda: min(self.now_s, self.busy_until_s))
        monkeypatch.setattr(turns, "sleep", self.wait)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def call(self, name: str, seconds: float) -> None:
        if self.order and self.order[-1] != name and self.now_s < self.busy_until_s:
            self.disturbed += 1
        self.order.append(name)
        self.now_s += seconds
        self.busy_until_s = self.now_s + self.spins_s


def test_the_median_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    found = seconds_in_turns([lambda: machine.call("a", 0.001), lambda: machine.call("b", 0.0011)])
    assert found == pytest.approx([0.001, 0.0011])
    changes = sum(a != b for a, b in zip(machine.order, machine.order[1:], strict=False))
    assert changes == 2 * turns.MOST - 1


def test_who_is_clearly_ahead_wins_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    seconds_in_turns([lambda: machine.call("a", 1.0), lambda: machine.call("b", 2.0)])
    assert machine.order == ["a", "b"] * turns.FEWEST


def test_long_calls_have_few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    seconds_in_turns([lambda: machine.call("a", 1.0), lambda: machine.call("b", 1.01)])
    assert machine.order == ["a", "b"] * turns.FEWEST


def test_a_turn_begins_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, spins_s=0.03)
    seconds_in_turns([lambda: machine.call("a", 0.001), lambda: machine.call("b", 0.001)])
    assert machine.disturbed == 0


def test_it_does_not_wait_for_the_users_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, spins_s=1e9)
    seconds_in_turns([lambda: machine.call("a", 1.0), lambda: machine.call("b", 2.0)])
    assert machine.now_s < 2 * turns.FEWEST * (2.0 + 2 * turns.MOST_REST_S)


def test_one_disturbed_turn_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    slow = iter([0.5])
    found = seconds_in_turns(
        [
            lambda: machine.call("a", 0.1 + next(slow, 0.0)),
            lambda: machine.call("b", 0.11),
        ]
    )
    assert found == pytest.approx([0.1, 0.11])
