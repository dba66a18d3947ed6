"""Dynamic batching: jobs wait in a bounded queue until enough of them are there, or one has waited
long enough; worker threads take them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from functools import partial
from math import ceil
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from moka.serving.errors import ClosingError, QueueFullError


class Groupable(Protocol):
    """Jobs of one group may share a batch."""

    @property
    def group(self) -> Hashable: ...


J = TypeVar("J", bound=Groupable)
R = TypeVar("R")

Run = Callable[[Sequence[J]], Sequence[R | Exception]]
Deliver = Callable[[Callable[[], None]], object]


class _Waiting(NamedTuple, Generic[J, R]):
    job: J
    future: Future[R]
    since: float  # time.monotonic()


class Batcher(Generic[J, R]):
    """Runs jobs in batches.

    A worker takes the jobs of the group of the oldest one. It waits for more of them until the
    largest batch is full or the oldest has waited `delay_s`; then it takes as many as the largest
    of `sizes` that is full.

    Args:
        run: computes a batch; gives for each job its result, or the exception that it ends with.
        sizes: of batches, rising.
        delay_s: how long a job waits for others.
        capacity: of the queue.
        workers: threads that run batches.
        seen: called with each batch's size and seconds, once it has run.
        deliver: calls the function that it gets, which gives all jobs of a batch their results; an
            event loop does so in its own thread, and is woken once instead of for each job.
    """

    def __init__(
        self,
        run: Run[J, R],
        *,
        sizes: Sequence[int],
        delay_s: float,
        capacity: int,
        workers: int = 1,
        seen: Callable[[int, float], None] = lambda size, seconds: None,
        deliver: Deliver = lambda settle: settle(),
    ) -> None:
        self._run, self._seen, self._deliver = run, seen, deliver
        self._sizes, self._delay_s, self.capacity = tuple(sizes), delay_s, capacity
        self._queue: list[_Waiting[J, R]] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._seconds_of_job = 0.0  # a running mean
        self._workers = [
            threading.Thread(target=self._work, name=f"batches-{i}", daemon=True)
            for i in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait, without those that were given up."""
        return sum(not each.future.cancelled() for each in self._queue)

    def submit(self, jobs: Sequence[J]) -> list[Future[R]]:
        """Queue jobs, all or none. A future that is cancelled while it waits gives its place back.

        Raises:
            QueueFullError: there is no room for them; the error says when to try again.
            ClosingError: the batcher is being closed.
        """
        now = time.monotonic()
        with self._changed:
            if self._is_closing:
                raise ClosingError("this model is being closed.", retry_after_s=1)
            if len(self._queue) + len(jobs) > self.capacity:
                self._drop_cancelled()
            if len(self._queue) + len(jobs) > self.capacity:
                expected = len(self._queue) * self._seconds_of_job / len(self._workers)
                raise QueueFullError(
                    f"{len(self._queue)} images wait already, and the queue has"
                    f" {self.capacity} places.",
                    retry_after_s=max(1, ceil(expected)),
                )
            added = [_Waiting(job, Future[R](), now) for job in jobs]
            self._queue += added
            self._changed.notify()
        return [each.future for each in added]

    def hurry(self) -> None:
        """From now on no job waits for others."""
        with self._changed:
            self._delay_s = 0.0
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more jobs, finish those that wait, and end the workers."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _work(self) -> None:
        while batch := self._next():
            start = time.perf_counter()
            results: Sequence[R | Exception]
            try:
                results = self._run([each.job for each in batch])
            except Exception as error:  # noqa: BLE001 - whatever it is, each job ends with it
                results = [error] * len(batch)
            seconds = time.perf_counter() - start
            self._seconds_of_job += 0.2 * (seconds / len(batch) - self._seconds_of_job)
            self._deliver(partial(_settle, batch, results))
            self._seen(len(batch), seconds)

    def _next(self) -> list[_Waiting[J, R]]:
        """The next batch; empty: there will be none."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if not self._queue:
                    if self._is_closing:
                        return []
                    self._changed.wait()
                    continue
                oldest = self._queue[0]
                group = oldest.job.group
                mates = [each for each in self._queue if each.job.group == group]
                left_s = oldest.since + self._delay_s - time.monotonic()
                if len(mates) < self._sizes[-1] and left_s > 0 and not self._is_closing:
                    self._changed.wait(left_s)
                    continue
                full = [size for size in self._sizes if size <= len(mates)]
                taken = mates[: max(full, default=len(mates))]
                chosen = {id(each) for each in taken}
                self._queue = [each for each in self._queue if id(each) not in chosen]
                if self._queue:
                    self._changed.notify()
                begun = [each for each in taken if each.future.set_running_or_notify_cancel()]
                if begun:
                    return begun

    def _drop_cancelled(self) -> None:
        self._queue = [each for each in self._queue if not each.future.cancelled()]


def _settle(batch: Sequence[_Waiting[Any, R]], results: Sequence[R | Exception]) -> None:
    for each, result in zip(batch, results, strict=True):
        if isinstance(result, Exception):
            each.future.set_exception(result)
        else:
            each.future.set_result(result)
