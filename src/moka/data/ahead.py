"""Work on many items by threads, ahead of who needs the results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = os.cpu_count() or 1


def map_ahead(
    function: Callable[[T], R], items: Iterable[T], *, threads: int = THREADS, ahead: int = 4
) -> Iterator[R]:
    """`map(function, items)`: results in the order of the items, computed by threads.

    It pays where the function leaves Python, as decoding an image does. An exception of the
    function or of the items is raised where its result would have come.

    Args:
        ahead: results for each thread that may wait to be taken; so many items are taken ahead.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
