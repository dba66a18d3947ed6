from __future__ import annotations

import os
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import side_by_side
from side_by_side import ContenderError, Place, Run, compare


def steady(seconds: float) -> Run:
    """It knows its time better than a clock."""
    return lambda iterations: seconds * iterations


def seen(name: str) -> Run:
    """The number in a variable, as seconds."""
    return lambda iterations: float(os.environ[name]) * iterations


def fails(when: str) -> Run:
    if when == "start":
        raise ValueError("not today")

    def run(iterations: int) -> None:
        if iterations > 1:
            os._exit(3)

    return run


def imports_torch() -> Run:
    return lambda iterations: float("torch" in sys.modules) * iterations


def test_medians() -> None:
    found = compare({"a": partial(steady, 0.001), "b": partial(steady, 0.003)}, rounds=3)
    assert [found[name].ms for name in "ab"] == pytest.approx([1.0, 3.0])
    assert all(timing.peak_mb > 1 for timing in found.values())
    assert all(timing.first_s > 0 for timing in found.values())


def test_a_place() -> None:
    place = Place(variables={"MOKA_BENCHMARK": "0.5"})
    found = compare({"a": partial(seen, "MOKA_BENCHMARK")}, rounds=1, places={"a": place})
    assert found["a"].ms == pytest.approx(500)


def knows_more() -> Run:
    """From a folder of packages."""
    more: Any = import_module("more")

    return steady(more.SECONDS)


def test_further_packages(tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text("SECONDS = 0.002")
    place = Place(packages=[str(tmp_path)])
    found = compare({"a": knows_more}, rounds=1, places={"a": place})
    assert found["a"].ms == pytest.approx(2)


def test_a_process_imports_only_its_contender() -> None:
    assert compare({"a": imports_torch}, rounds=1)["a"].ms == 0


def test_who_fails_is_left_out() -> None:
    failed: dict[str, str] = {}
    contenders = {
        "early": partial(fails, "start"),
        "late": partial(fails, "turn"),
        "good": partial(steady, 0.001),
    }
    found = compare(contenders, rounds=1, failed=failed)
    assert list(found) == ["good"]
    assert failed == {"early": "ValueError: not today", "late": "ended with code 3"}


def test_who_fails_ends_all() -> None:
    with pytest.raises(ContenderError, match="not today"):
        compare({"early": partial(fails, "start")})


def test_a_limit() -> None:
    failed: dict[str, str] = {}
    found = compare({"slow": partial(partial, sleep)}, rounds=1, failed=failed, limit_s=0.2)
    assert not found
    assert failed == {"slow": "took more than 0.2 s"}


def test_enough() -> None:
    found = compare({"a": counted_turns}, rounds=50, warm_up=1, iterations=1, enough_s=0.0)
    assert found["a"].ms == 3000  # the first iteration, the warm-up and one round


def counted_turns() -> Run:
    """The number of the turn, as seconds."""
    turns = iter(range(1, 100))
    return lambda iterations: float(next(turns))


@pytest.mark.parametrize(("busy_for_s", "waited_s"), [(0.0, 0.01), (0.03, 0.04), (9.0, 0.5)])
def test_a_process_rests_before_the_next_turn(
    monkeypatch: pytest.MonkeyPatch, busy_for_s: float, waited_s: float
) -> None:
    """Its threads compute for a while after the work is done."""
    now_s = 0.0

    def wait(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    monkeypatch.setattr(side_by_side, "sleep", wait)
    monkeypatch.setattr(side_by_side, "perf_counter", lambda: now_s)
    monkeypatch.setattr(side_by_side, "process_time", lambda: min(now_s, busy_for_s))
    side_by_side._rest()
    assert now_s == pytest.approx(waited_s, abs=0.0101)
