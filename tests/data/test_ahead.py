from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from moka.data.ahead import map_ahead


def test_results_are_in_order() -> None:
    def slow_at_first(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0)
        return i * i

    assert list(map_ahead(slow_at_first, range(50), threads=3)) == [i * i for i in range(50)]
    assert list(map_ahead(slow_at_first, [], threads=3)) == []


def test_they_are_computed_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)  # each waits for the other
    assert sorted(map_ahead(lambda _: both.wait(), range(2), threads=2)) == [0, 1]


def test_only_so_many_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = map_ahead(int, items(), threads=2, ahead=3)
    for i in range(20):
        assert next(results) == i
        assert len(taken) <= i + 2 * 3 + 2


@pytest.mark.parametrize("broken", [0, 7])
def test_an_error_comes_where_its_result_would(broken: int) -> None:
    results = map_ahead(lambda i: 1 // (i - broken), range(20), threads=2)
    for i in range(broken):
        assert next(results) == 1 // (i - broken)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    results = map_ahead(int, range(100), threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
