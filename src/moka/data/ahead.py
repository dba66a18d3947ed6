"""Process items in threads before the consumer asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from moka.cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")


# Two even on one core, as one may wait for the disk; not more than 16, as each holds a batch.
THREADS = min(max(2, usable_cores()), 16)


def map_ahead(
    function: Callable[[T], R], items: Iterable[T], *, threads: int = THREADS, ahead: int = 4
) -> Iterator[R]:
    """`map(function, items)`, computed by threads; the results keep the order of the items.

    Threads help only where the function releases Python's lock, as decoding an image does. An
    exception of the function or of the items is raised where its result would have come.

    Args:
        ahead: how many items per thread may be in progress or done but not yet taken.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for future in _submit(pool, function, items):
            waiting.append(future)
            if len(waiting) >= threads * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[Future[R]]:
    """A future for each item; if iterating fails, a last one with the exception."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:  # noqa: BLE001 - raised in its turn
        failed: Future[R] = Future()
        failed.set_exception(error)
        yield failed
