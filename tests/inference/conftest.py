"""Nets in tests are small: here they count as large enough for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from moka.inference import best


@pytest.fixture(autouse=True)
def _no_net_is_too_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(best, "SMALLEST_S", 0.0)
    best.forget_winners()
    yield
    best.forget_winners()


@pytest.fixture
def programs_take(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let programs seem to take so many seconds, by themselves and in turns."""

    def take(seconds: float) -> None:
        monkeypatch.setattr("moka.inference.make.Maker._seconds", lambda *_: seconds)
        monkeypatch.setattr(
            "moka.inference.make.seconds_in_turns", lambda runs: [seconds] * len(runs)
        )

    return take
