"""Nets in tests are small and run a few times: here they count as large enough for programs, and as
settled after one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from moka.inference import best, fast


@pytest.fixture(autouse=True)
def _no_net_is_too_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(best, "SMALLEST_S", 0.0)
    best.forget_winners()
    yield
    best.forget_winners()


@pytest.fixture(autouse=True)
def _programs_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "SETTLED_PASSES", 0)


@pytest.fixture
def programs_take(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let programs seem to take so many seconds, by themselves and in turns."""

    def take(seconds: float) -> None:
        monkeypatch.setattr("moka.inference.make.Maker._seconds", lambda *_: seconds)
        monkeypatch.setattr(
            "moka.inference.make.seconds_in_turns", lambda runs: [seconds] * len(runs)
        )

    return take
