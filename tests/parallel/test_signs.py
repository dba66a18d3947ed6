"""Who notices what, with a store in memory; test_launch.py and test_machines.py have whole runs."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from moka.parallel import signs
from moka.parallel.signs import SignsOfLife, Turns
from moka.parallel.stillness import Stillness
from moka.parallel.team import TEAM_LOST, Alone

WAIT_S = 20.0  # only a failure waits that long
CALM_S = 2.0  # patience with a thread that a busy machine keeps from running, where nobody hangs
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Store:
    """A store in memory, in which the other process gives signs as long as it `lives`."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {"who/1": b"elsewhere - 12345"}
        self.counts = {"sign/0": 0, "sign/1": 0}
        self.lives = True

    def set(self, key: str, value: str) -> None:
        self.values[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.values[key]

    def check(self, keys: Sequence[str]) -> bool:
        return all(key in self.values for key in keys)

    def add(self, key: str, number: int) -> int:
        self.counts[key] += number or (key == "sign/1" and self.lives)
        return self.counts[key]


class Life:
    """A process that gives signs, and how it was ended."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.team = Alone(0, 2)
        self.killed: list[tuple[int, int]] = []
        self.code: int | None = None
        self.ended = threading.Event()

    def end(self, code: int) -> None:
        self.code = code
        self.ended.set()
        raise SystemExit  # ends the thread

    def run(self, until: Callable[[], bool], patience_s: float = 0.2) -> None:
        """Live until something has happened."""
        end_s = time.monotonic() + WAIT_S
        with SignsOfLife(self.store, self.team, patience_s=patience_s):
            while not until() and time.monotonic() < end_s:
                time.sleep(0.01)
            self.store.values["done/1"] = b"yes"
        assert until()

    def turns(self, count: int) -> Callable[[], bool]:
        """Whether this process has given so many signs more."""
        wanted = self.store.counts["sign/0"] + count
        return lambda: self.store.counts["sign/0"] >= wanted


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Life:
    made = Life(Store())
    monkeypatch.setattr(os, "_exit", made.end)
    monkeypatch.setattr(os, "kill", lambda *given: made.killed.append(given))
    monkeypatch.setattr(Stillness, "look", lambda self: 0)
    return made


def test_two_that_live(life: Life) -> None:
    life.run(until=life.turns(6), patience_s=CALM_S)
    assert life.code is None
    assert life.store.values["done/0"] == b"yes"


@pytest.mark.parametrize("is_here", [True, False])
def test_one_that_gives_no_sign_is_named(
    life: Life, caplog: pytest.LogCaptureFixture, is_here: bool
) -> None:
    """It is ended if it is a process of this machine and not of another container."""
    life.store.lives = False
    machine = signs._machine() if is_here else "elsewhere pid:[1]"
    life.store.values["who/1"] = f"{machine} 12345".encode()
    life.run(until=life.ended.is_set)
    assert life.code == TEAM_LOST
    assert life.store.values["lost"] == life.store.values["who/1"]
    assert life.killed == ([(12345, signal.SIGKILL)] if is_here else [])
    host = machine.split()[0]
    says = f"Process 1 of 2 (number 12345 on {host}) has given no sign of life for 0.2 s."
    assert caplog.messages == [says]


def test_one_that_is_done_need_give_no_sign(life: Life) -> None:
    life.store.lives = False
    life.store.values["done/1"] = b"yes"
    life.run(until=life.turns(6), patience_s=CALM_S)
    assert life.code is None


def test_somebody_else_has_noticed(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    life.store.values["lost"] = b"somebody"
    life.run(until=life.ended.is_set)
    assert (life.code, caplog.messages) == (TEAM_LOST, [])


def test_the_store_is_gone(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> int:
        raise RuntimeError("connection reset")

    monkeypatch.setattr(life.store, "add", gone)
    life.run(until=life.ended.is_set)
    assert life.code == TEAM_LOST


def test_the_store_does_not_answer(
    life: Life, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def silent(*_: object) -> int:
        life.ended.wait(WAIT_S)
        return 0

    monkeypatch.setattr(life.store, "add", silent)
    life.run(until=life.ended.is_set)
    assert life.code == TEAM_LOST
    assert caplog.messages[0] == (
        f"Process 0 of 2 (number {os.getpid()}) can no longer reach the others: the store of the"
        " group does not answer."
    )


def test_one_that_stands_still_says_where(
    life: Life, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = iter(range(10**6))
    monkeypatch.setattr(Stillness, "look", lambda self: next(looks))
    life.run(until=life.ended.is_set)
    assert life.code == TEAM_LOST
    says = r"Process 0 of 2 \(number \d+\) has stood still for 0\.2 s at .*test_signs\.py:\d+\."
    assert re.fullmatch(says, caplog.messages[0])


def test_a_log_that_takes_nothing_does_not_keep_it(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the log may be what the process waits for."""
    monkeypatch.setattr(signs, "SAYING_S", 0.05)
    monkeypatch.setattr(Stillness, "look", lambda self: 10)
    monkeypatch.setattr(logging.getLogger("moka.team"), "error", lambda *_: life.ended.wait(WAIT_S))
    life.run(until=life.ended.is_set)
    assert life.code == TEAM_LOST


@pytest.mark.parametrize(("other", "ends"), [("yes", True), ("no", False)])
def test_all_wait_for_one_another(
    life: Life,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    other: str,
    ends: bool,
) -> None:
    monkeypatch.setattr(signs, "STUCK_S", 0.3)
    life.store.values["waits/1"] = other.encode()
    until = life.ended.is_set if ends else life.turns(6)
    with life.team.waiting():
        life.run(until, patience_s=0.2 if ends else CALM_S)
    assert life.code == (TEAM_LOST if ends else None)
    if ends:
        assert caplog.messages[0].endswith("has waited 0.3 s for the others, which wait as well.")


class Calling(Alone):
    """A member that begins to wait anew whenever somebody looks."""

    looks = 0

    @property
    def calls(self) -> int:
        self.looks += 1
        return self.looks

    @calls.setter
    def calls(self, _: int) -> None:
        pass


def test_one_that_waits_in_one_call_after_the_other_is_not_stuck(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "STUCK_S", 0.3)
    life.store.values["waits/1"] = b"yes"
    life.team = Calling(0, 2)
    with life.team.waiting():
        life.run(until=life.turns(6), patience_s=CALM_S)
    assert life.code is None


def test_turns() -> None:
    turns = Turns(2)
    found = []
    for number in (5, 5, 5, 6, 6, None, None, None, 6, 6, 6):
        turns.see(number)
        found.append(turns.are_many)
    assert found == [False, False, True, *[False] * 7, True]
