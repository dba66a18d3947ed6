from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fresh import run_program
from tests.training_runs import solver_message

from moka.data.feed import Feed
from moka.errors import DataError
from moka.schema import format_text

PATIENCE_S = 10.0  # far more than any machine needs; only a failure waits that long


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


OTHERS: set[threading.Thread] = set()  # of nets that other tests have left


def feed_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "feed" and t not in OTHERS]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    OTHERS.update(feed_threads())
    yield
    assert wait_for(lambda: not feed_threads())


def test_items_come_in_order() -> None:
    feed = Feed(lambda: itertools.count(), 3)
    assert [feed.next() for _ in range(100)] == list(range(100))
    feed.close()


def test_nothing_is_made_before_it_is_asked_for() -> None:
    feed = Feed[int](lambda: pytest.fail("asked for"), 3)
    assert not feed_threads()
    feed.close()


@pytest.mark.parametrize("ahead", [1, 3])
def test_so_many_are_made_ahead_and_no_more(ahead: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in itertools.count():
            made.append(i)
            yield i

    feed = Feed(items, ahead)
    assert feed.next() == 0
    full = 1 + ahead + 1  # handed out, waiting, and the one in the thread's hand
    assert wait_for(lambda: len(made) == full)
    time.sleep(0.25)  # longer than the thread waits between two looks
    assert len(made) == full
    feed.close()


class BrokenRecordError(Exception):
    pass


def broken() -> Iterator[int]:
    yield 1
    raise BrokenRecordError("record 2")


def test_an_error_is_raised_where_the_item_would_have_been() -> None:
    feed = Feed(broken, 2)
    assert feed.next() == 1
    for _ in range(3):  # whoever asks again gets the same answer
        with pytest.raises(BrokenRecordError, match="record 2") as caught:
            feed.next()
    assert "broken" in [entry.name for entry in caught.traceback]
    feed.close()


def test_an_iterator_that_ends() -> None:
    feed = Feed(lambda: iter([1, 2]), 2)
    assert [feed.next(), feed.next()] == [1, 2]
    with pytest.raises(StopIteration):
        feed.next()
    feed.close()


def test_close_ends_the_thread_though_the_queue_is_full() -> None:
    feed = Feed(itertools.count, 1)
    feed.next()
    assert len(feed_threads()) == 1
    feed.close()
    assert not feed_threads()
    feed.close()  # once more does no harm
    with pytest.raises(DataError, match="has been closed"):
        feed.next()


def test_a_forgotten_feed_ends_its_thread() -> None:
    feed = Feed(itertools.count, 1)
    feed.next()
    del feed
    gc.collect()
    assert wait_for(lambda: not feed_threads())


def test_a_program_that_closes_nothing_ends(tmp_path: Path, database: str) -> None:
    (tmp_path / "solver.prototxt").write_text(format_text(solver_message("", "plain")))
    program = """if True:
        import caffe
        solver = caffe.SGDSolver("solver.prototxt")
        net = solver.net
        solver.step(2)
        print("ready", flush=True)
        """
    ended = run_program(program, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, b"ready\n"), ended.stderr.decode()


def test_waited_s() -> None:
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        go_on.wait(PATIENCE_S)
        yield 1

    feed = Feed(items, 1)
    assert feed.waited_s == 0
    feed.next()
    before = feed.waited_s
    threading.Timer(0.2, go_on.set).start()
    feed.next()
    assert 0.1 < feed.waited_s - before < PATIENCE_S
    feed.close()
