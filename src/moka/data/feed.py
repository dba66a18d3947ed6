"""Batches made ahead: a thread reads, decodes and transforms while the solver computes."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from moka.errors import DataError

T = TypeVar("T")

_POLL_S = 0.1  # how soon a thread that waits for room notices that the feed is closed


class Feed(Generic[T]):
    """Runs an iterator in a thread, at most `ahead` items in front of the reader.

    The thread starts with `start` or the first `next`. It ends with `close`, or when nothing refers
    to the feed any more. An exception of the iterator is raised by `next`, with its own traceback.

    Args:
        items: makes the iterator; called in the thread.
        ahead: how many finished items may wait.
    """

    def __init__(self, items: Callable[[], Iterator[T]], ahead: int) -> None:
        self.waited_s = 0.0
        self._items = items
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0  # the process that the thread is in
        weakref.finalize(self, self._stop.set)

    @property
    def left_behind(self) -> bool:
        """Whether this process was forked after the thread started. Then it has no such thread, and
        locks that the thread held stay locked."""
        return self._thread is not None and self._pid != os.getpid()

    def start(self) -> None:
        """Start the thread unless it runs already. Raises DataError if the feed is closed."""
        if self._stop.is_set():
            raise DataError("the data layer has been closed and gives no more batches.")
        if self.left_behind:
            raise DataError("this process was forked, and its feed stayed behind in the parent.")
        if self._thread is None:
            self._thread = threading.Thread(
                target=_run, args=(self._items, self._queue, self._stop), name="feed", daemon=True
            )
            self._pid = os.getpid()
            self._thread.start()

    def next(self) -> T:
        """The next item; waits for it if necessary (`waited_s` sums the seconds)."""
        self.start()
        start = time.perf_counter()
        item, error = self._queue.get()
        self.waited_s += time.perf_counter() - start
        if error is not None:
            self._queue.put((None, error))  # whoever asks again gets the same answer
            raise error
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """Stop the thread and wait for its end; items made ahead are dropped."""
        self._stop.set()
        if self._thread is not None and not self.left_behind:
            with contextlib.suppress(queue.Empty):  # make room, so that the thread need not wait
                self._queue.get_nowait()
            self._thread.join()


def _run(
    items: Callable[[], Iterator[Any]],
    out: queue.Queue[tuple[Any, BaseException | None]],
    stop: threading.Event,
) -> None:
    """Run in the thread. It refers to the queue but not to the feed, so an unused feed is freed."""
    try:
        for item in items():
            if not _put(out, (item, None), stop):
                return
    except BaseException as error:  # noqa: BLE001 - handed to the reader whole
        _put(out, (None, error), stop)
    else:
        _put(out, (None, StopIteration("the feed has ended")), stop)


def _put(out: queue.Queue[Any], item: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            out.put(item, timeout=_POLL_S)
            return True
        except queue.Full:
            continue
    return False
