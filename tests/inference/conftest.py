"""Nets in tests are small: here they count as large enough for programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moka.inference import best


@pytest.fixture(autouse=True)
def _no_net_is_too_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(best, "SMALLEST_S", 0.0)
    best.forget_winners()
    yield
    best.forget_winners()
