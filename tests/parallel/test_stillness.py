from __future__ import annotations

import hashlib
import itertools
import threading
import time
from pathlib import Path

import pytest

from moka.parallel.stillness import Stillness, _states, place_of_main_thread
from moka.parallel.team import Alone

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the kernel says of the other threads: all sleep. No thread that another test has left
    behind uses a processor."""
    threads = ["S", "S"]
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    monkeypatch.setattr("moka.parallel.stillness._states", lambda _: threads)
    return threads


def look(stillness: Stillness, times: int = 3) -> int:
    for _ in range(times):
        turns = stillness.look()
    return turns


def test_who_sleeps_stands_still(states: list[str]) -> None:
    assert look(Stillness(Alone())) == 3


@pytest.mark.parametrize("state", ["R", "D"])
def test_who_wants_a_processor_or_waits_for_a_disk_does_not(states: list[str], state: str) -> None:
    stillness = Stillness(Alone())
    look(stillness)
    states.append(state)
    assert look(stillness) == 0


def test_who_computes_does_not(states: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A fiftieth of a core is work."""
    used_s = iter((0.0, 0.03, 0.06, 0.07, 0.08))
    now_s = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: next(used_s))
    monkeypatch.setattr(time, "monotonic", lambda: next(now_s))
    stillness = Stillness(Alone())
    assert [stillness.look() for _ in range(4)] == [0, 0, 1, 2]


def test_who_waits_for_others_does_not(states: list[str]) -> None:
    team = Alone()
    stillness = Stillness(team)
    look(stillness)
    with team.waiting():
        assert look(stillness) == 0
    assert look(stillness) == 3


def test_who_has_told_something_does_not(states: list[str]) -> None:
    team = Alone()
    stillness = Stillness(team)
    look(stillness)
    with team.waiting():
        pass
    assert stillness.look() == 0


def test_threads_as_the_kernel_sees_them() -> None:
    """One computes outside of Python's lock."""
    stop = threading.Event()
    data = bytes(1 << 20)

    def compute() -> None:
        while not stop.is_set():
            hashlib.sha256(data)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        end_s = time.monotonic() + 20
        while "R" not in list(_states()):
            assert time.monotonic() < end_s
        assert look(Stillness(Alone())) == 0
        assert len(list(_states())) == len(list(_states({str(thread.native_id)}))) + 1
    finally:
        stop.set()
        thread.join()


def test_the_line_where_the_main_thread_is() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(place_of_main_thread()))
    thread.start()
    thread.join()
    assert found[0].rpartition(":")[0] in (__file__, threading.__file__)
