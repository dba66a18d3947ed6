"""What a thread declares about its solvers is its own."""

from __future__ import annotations

import threading

import pytest

from moka.errors import UsageError
from moka.parallel import declared


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "_declared", declared._Declared())


def found() -> tuple[int, int, bool]:
    return declared.solver_count(), declared.solver_rank(), declared.multiprocess()


def declare() -> None:
    declared.set_solver_count(4)
    declared.set_solver_rank(2)
    declared.set_multiprocess(True)


def test_solvers_that_train_together() -> None:
    assert found() == (1, 0, False)
    declare()
    assert found() == (4, 2, True)
    team = declared.declared_team()
    assert (team.rank, team.size, team.is_first, team.is_connected) == (2, 4, False, False)


def test_another_thread_starts_from_the_defaults() -> None:
    declare()
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(found()))
    thread.start()
    thread.join()
    assert seen == [(1, 0, False)]


def test_numbers_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="number of solvers must be >= 1, got 0"):
        declared.set_solver_count(0)
    with pytest.raises(UsageError, match="rank of a solver must be >= 0, got -1"):
        declared.set_solver_rank(-1)
