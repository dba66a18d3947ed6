from __future__ import annotations

import pytest

from moka.inference import pressure
from moka.inference.pressure import OFTEN, Pressure


class Machine:
    """Takes the processor away so many times a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.count = 100.0, 7
        monkeypatch.setattr(pressure, "_preemptions", lambda: self.count)
        self.pressure = Pressure(lambda: self.now_s)

    def run(self, seconds: float, a_second: float) -> None:
        self.now_s += seconds
        self.count += int(seconds * a_second)


def test_it_is_felt_if_the_processor_was_taken_often(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.run(4, OFTEN / 2)
    assert not machine.pressure.is_felt()
    machine.run(4, 2 * OFTEN)
    assert not machine.pressure.is_felt()  # it may be over in a moment
    machine.run(4, 2 * OFTEN)
    assert machine.pressure.is_felt()
    machine.run(4, OFTEN / 2)
    assert not machine.pressure.is_felt()  # what counts is the time since the last question


def test_where_the_system_does_not_tell_it_is_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "_preemptions", lambda: None)
    assert Pressure().is_felt()


def test_the_system_is_asked() -> None:
    found = pressure._preemptions()
    assert found is None or found >= 0
