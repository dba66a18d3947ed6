from __future__ import annotations

from collections.abc import Callable

import pytest

from moka.doctor import trial as module
from moka.doctor.facts import BROKEN, FINE
from moka.doctor.trial import trial
from moka.errors import DataError
from moka.inference.engines import BACKENDS


def test_all_works_here() -> None:
    facts = list(trial())
    engines = [f"engine {backend.name}" for backend in BACKENDS if backend.is_installed()]
    assert [fact.name for fact in facts] == ["training", *engines, "LMDB"]
    assert [fact.state for fact in facts] == [FINE] * len(facts)


def test_an_engine_with_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    engines = [fact for fact in trial() if fact.name.startswith("engine")]
    assert [fact.state for fact in engines] == [BROKEN] * len(engines)
    assert "its numbers differ by" in engines[0].found


def test_a_step_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Callable[[], str]:
        raise OSError("no such luck\nmore")

    monkeypatch.setattr(module, "_store", fail)
    *_, last = trial()
    assert (last.state, last.found) == (BROKEN, "fails: no such luck")


def test_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Callable[[], str]:
        raise DataError("no addresses.", advice="ulimit -v unlimited")

    monkeypatch.setattr(module, "_store", fail)
    *_, last = trial()
    assert (last.found, last.advice) == ("fails: no addresses.", "ulimit -v unlimited")
