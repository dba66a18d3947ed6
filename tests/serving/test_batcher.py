"""The queue: which jobs share a batch, and who gets what. Nothing here waits for a clock: jobs wait
either for ever, until a batch is full, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from moka.serving.batcher import Batcher
from moka.serving.errors import ClosingError, QueueFullError

FOR_EVER = 3600.0
SOON = 60.0  # only a failure waits that long


class Job(NamedTuple):
    number: int
    group: str = ""


class Work:
    """Doubles numbers; notes its batches, and stops at a gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)

    def __call__(self, jobs: Sequence[Job]) -> list[int | Exception]:
        self.begun.release()
        assert self.gate.wait(SOON)
        self.batches.append([job.number for job in jobs])
        return [ValueError("odd") if job.number % 2 else 2 * job.number for job in jobs]


def made(work: Work, *, delay_s: float = FOR_EVER, capacity: int = 8, workers: int = 1,
         sizes: Sequence[int] = (1, 2, 4)) -> Batcher[Job, int]:  # fmt: skip
    return Batcher(work, sizes=sizes, delay_s=delay_s, capacity=capacity, workers=workers)


def test_a_full_batch_runs_at_once() -> None:
    work = Work()
    batcher = made(work)
    futures = batcher.submit([Job(2 * i) for i in range(4)])
    assert [future.result(SOON) for future in futures] == [0, 4, 8, 12]
    assert work.batches == [[0, 2, 4, 6]]
    batcher.close()


def test_closing_finishes_what_waits_in_batches_that_are_full() -> None:
    work = Work()
    batcher = made(work)
    futures = batcher.submit([Job(2 * i) for i in range(3)])
    batcher.close()
    assert [future.result(0) for future in futures] == [0, 4, 8]
    assert work.batches == [[0, 2], [4]]
    with pytest.raises(ClosingError, match="being closed"):
        batcher.submit([Job(1)])


def test_hurrying_lets_nothing_wait() -> None:
    work = Work()
    batcher = made(work)
    futures = batcher.submit([Job(0), Job(2)])
    batcher.hurry()
    assert [future.result(SOON) for future in futures] == [0, 4]
    assert batcher.submit([Job(4)])[0].result(SOON) == 8
    batcher.close()


def test_without_a_delay_one_job_runs_alone() -> None:
    work = Work()
    batcher = made(work, delay_s=0)
    assert batcher.submit([Job(4)])[0].result(SOON) == 8
    batcher.close()


def test_each_job_gets_its_own_error() -> None:
    batcher = made(Work())
    futures = batcher.submit([Job(i) for i in range(4)])
    assert futures[2].result(SOON) == 4
    with pytest.raises(ValueError, match="odd"):
        futures[1].result(SOON)
    batcher.close()


def test_a_failing_batch_ends_its_jobs_and_not_the_worker() -> None:
    calls = []

    def fails_once(jobs: Sequence[Job]) -> list[int | Exception]:
        calls.append(len(jobs))
        if len(calls) == 1:
            raise MemoryError
        return [0] * len(jobs)

    batcher = Batcher[Job, int](fails_once, sizes=(1,), delay_s=0, capacity=4)
    with pytest.raises(MemoryError):
        batcher.submit([Job(0)])[0].result(SOON)
    assert batcher.submit([Job(0)])[0].result(SOON) == 0
    batcher.close()


def test_groups_do_not_mix() -> None:
    work = Work()
    batcher = made(work, sizes=(2,))
    futures = batcher.submit([Job(0, "a"), Job(2, "b"), Job(4, "a"), Job(6, "b")])
    assert [future.result(SOON) for future in futures] == [0, 4, 8, 12]
    assert work.batches == [[0, 4], [2, 6]]
    batcher.close()


def test_the_queue_is_bounded() -> None:
    work = Work()
    work.gate.clear()
    batcher = made(work, sizes=(1,), capacity=2)
    first = batcher.submit([Job(0)])
    assert work.begun.acquire(timeout=SOON)  # it has left the queue
    waiting = batcher.submit([Job(2), Job(4)])
    with pytest.raises(QueueFullError, match="2 images wait already") as refused:
        batcher.submit([Job(6)])
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1
    work.gate.set()
    assert [future.result(SOON) for future in (*first, *waiting)] == [0, 4, 8]
    batcher.close()


def test_too_many_at_once_are_refused_together() -> None:
    batcher = made(Work(), capacity=3)
    with pytest.raises(QueueFullError):
        batcher.submit([Job(i) for i in range(4)])
    assert batcher.waiting == 0
    batcher.close()


def test_a_cancelled_job_gives_its_place_back_and_does_not_run() -> None:
    work = Work()
    work.gate.clear()
    batcher = made(work, sizes=(1,), capacity=1)
    batcher.submit([Job(0)])
    assert work.begun.acquire(timeout=SOON)
    (given_up,) = batcher.submit([Job(2)])
    assert given_up.cancel()
    (kept,) = batcher.submit([Job(4)])
    work.gate.set()
    assert kept.result(SOON) == 8
    batcher.close()
    assert work.batches == [[0], [4]]


def test_workers_run_batches_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def meets(jobs: Sequence[Job]) -> list[int | Exception]:
        both.wait(SOON)
        return [0] * len(jobs)

    batcher = Batcher[Job, int](meets, sizes=(1,), delay_s=0, capacity=4, workers=2)
    for future in batcher.submit([Job(0), Job(1)]):
        assert future.result(SOON) == 0
    batcher.close()


def test_batches_are_told() -> None:
    told: list[int] = []
    batcher = Batcher[Job, int](
        Work(),
        sizes=(2,),
        delay_s=FOR_EVER,
        capacity=4,
        seen=lambda size, seconds: told.append(size),
    )
    batcher.submit([Job(0), Job(2)])
    batcher.close()
    assert told == [2]
