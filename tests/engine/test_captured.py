"""Work that is recorded: when, for which key, and what happens where it cannot be.

A stand-in records here; `tests/solver/test_on_gpu.py` does so with CUDA graphs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
import torch
from tests.played_gpu import playing_a_gpu
from torch import Tensor

from moka.engine.captured import (
    MOST_RECORDINGS,
    MOST_UNRECORDED,
    CannotRecordError,
    Captured,
    CudaRecorder,
    Inputs,
)
from moka.engine.host_reads import HostReads
from moka.errors import NetError

T = TypeVar("T")


class Recorder:
    """Keeps work, and what was done with it."""

    def __init__(self, fault: str = "", *, has_worked: bool = False) -> None:
        self.done: list[str] = []
        self.first: list[bool] = []
        self._fault, self._has_worked = fault, has_worked

    def warm_up(self, work: Callable[[], T], *, is_first: bool) -> T:
        self.done.append("warm-up")
        self.first.append(is_first)
        return work()

    def record(self, work: Callable[[Inputs], T], inputs: Inputs) -> Callable[[Inputs], T]:
        self.done.append("record")
        if self._fault:
            raise CannotRecordError(self._fault, *([work(inputs)] if self._has_worked else []))

        def replay(given: Inputs) -> T:
            self.done.append("replay")
            return work(given)

        return replay


class Doubling:
    """Twice x; remembers the tensors that it was given."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []

    def __call__(self, inputs: Mapping[str, Tensor], reads: HostReads | None) -> Tensor:
        self.given.append(inputs["x"])
        return 2 * inputs["x"]


def x(value: float, size: int = 3) -> dict[str, Tensor]:
    return {"x": torch.full((size,), value)}


def test_it_warms_up_and_then_runs_what_it_has_recorded() -> None:
    recorder, work = Recorder(), Doubling()
    captured = Captured(work, recorder, warm_ups=2)
    for value in (1.0, 2.0, 3.0, 4.0):
        assert captured(x(value), "key").tolist() == [2 * value] * 3
    assert recorder.done == ["warm-up", "warm-up", "record", "replay", "replay"]
    assert captured.recordings == 1
    assert captured.refusal is None


def test_a_cuda_graph_reads_its_inputs_in_one_place() -> None:
    given: list[int] = []

    def work(inputs: Inputs) -> Tensor:
        given.append(inputs["x"].data_ptr())
        return 2 * inputs["x"]

    with playing_a_gpu() as gpu:
        replay = CudaRecorder(gpu).record(work, {"x": torch.ones(3, device=gpu)})
        for value in (1.0, 2.0, 3.0):
            inputs = {"x": torch.full((3,), value, device=gpu)}
            assert replay(inputs).tolist() == [2 * value] * 3
            assert inputs["x"].data_ptr() not in given
    assert len(given) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda: (x(1.0), "another key"),
        lambda: (x(1.0, 4), "key"),
        lambda: ({"x": torch.ones(3, dtype=torch.float64)}, "key"),
    ],
)
def test_it_is_recorded_anew_for_another_key_or_shape(
    change: Callable[[], tuple[dict[str, Tensor], str]],
) -> None:
    recorder = Recorder()
    captured = Captured(Doubling(), recorder, warm_ups=1)
    for _ in range(3):
        captured(x(1.0), "key")
    inputs, key = change()
    for _ in range(2):
        assert captured(inputs, key).tolist() == [2] * len(inputs["x"])
    assert recorder.done == [*["warm-up", "record", "replay", "replay"], "warm-up", "record",
                             "replay"]  # fmt: skip


def test_work_is_watched_once_for_a_key_whatever_the_shapes() -> None:
    watched: list[int] = []

    def work(inputs: Inputs, reads: HostReads | None) -> Tensor:
        watched.extend([len(inputs["x"])] if reads is not None else [])
        return 2 * inputs["x"]

    captured = Captured(work, Recorder(), warm_ups=2)
    for size in (3, 4, 5, 3, 6, 7):
        assert captured(x(1.0, size), "key").tolist() == [2] * size
    assert watched == [3]
    captured(x(1.0, 8), "another key")
    assert watched == [3, 8]


def test_shapes_that_never_come_again_are_left_alone() -> None:
    recorder = Recorder()
    captured = Captured(Doubling(), recorder, warm_ups=2)
    for size in range(1, 40):
        assert captured(x(1.0, size), "key").tolist() == [2] * size
    assert captured.refusal is not None
    assert "change their shapes too often" in captured.refusal
    assert MOST_UNRECORDED <= len(recorder.done) < MOST_UNRECORDED + 5
    assert all(recorder.first)


def test_two_kinds_of_calls_in_turns_are_both_recorded() -> None:
    recorder = Recorder()
    captured = Captured(Doubling(), recorder, warm_ups=1)
    for k in range(6):
        assert captured(x(float(k)), k % 2).tolist() == [2 * k] * 3
    assert recorder.done.count("replay") == 4
    for key in (0, 2, 1):  # a third one takes the place of the one that has waited longest
        captured(x(1.0), key)
    assert recorder.done[-2:] == ["warm-up", "warm-up"]


def test_what_changes_again_and_again_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "moka.detail")
    recorder = Recorder()
    captured = Captured(Doubling(), recorder, warm_ups=1)
    for key in range(2 * MOST_RECORDINGS):
        for _ in range(2):
            assert captured(x(1.0), key).tolist() == [2] * 3
    assert recorder.done.count("record") == MOST_RECORDINGS
    times = f"it has changed {MOST_RECORDINGS} times"
    assert captured.refusal == f"A step is not recorded: {times}."
    assert caplog.messages[-1] == captured.refusal


@pytest.mark.parametrize("has_worked", [False, True])
def test_work_that_cannot_be_recorded_runs_by_itself(has_worked: bool) -> None:
    recorder = Recorder(fault="a tensor is no array", has_worked=has_worked)
    work = Doubling()
    captured = Captured(work, recorder, warm_ups=1)
    for value in (1.0, 2.0, 3.0):
        assert captured(x(value), "key").tolist() == [2 * value] * 3
    assert len(work.given) == 3
    assert recorder.done == ["warm-up", "record"]
    assert captured.refusal == "A step is not recorded: a tensor is no array."


def test_an_obstacle_is_asked_for_with_each_key() -> None:
    recorder, obstacles = Recorder(), [None, "a hook"]
    captured = Captured(Doubling(), recorder, 1, lambda: obstacles.pop(0))
    for key in (1, 1, 2, 2):
        assert captured(x(1.0), key).tolist() == [2] * 3
    assert recorder.done == ["warm-up", "record", "replay"]
    assert captured.refusal == "A step is not recorded: a hook."


def test_work_that_reads_values_back_is_not_recorded() -> None:
    def work(inputs: Mapping[str, Tensor], reads: HostReads | None) -> Tensor:
        found = inputs["x"] * (2 if bool(inputs["x"].sum() > 0) else 1)
        if reads is not None:
            reads.layer_done("y")
        return found

    recorder = Recorder()
    captured = Captured(work, recorder, warm_ups=1)
    for value in (1.0, 2.0, -3.0):
        assert captured(x(value), "key").tolist() == [value * (2 if value > 0 else 1)] * 3
    assert recorder.done == ["warm-up"]
    assert captured.refusal is not None
    assert captured.refusal.endswith("on the host, in the layer that makes y.")


def test_cudnn_measures_while_work_warms_up_and_is_recorded() -> None:
    flag: list[bool] = []

    def work(_: Inputs | None = None) -> None:
        flag.append(torch.backends.cudnn.benchmark)

    with playing_a_gpu() as gpu:
        recorder = CudaRecorder(gpu)
        recorder.warm_up(work, is_first=True)
        recorder.warm_up(work, is_first=False)
        recorder.record(work, {})
    assert flag == [False, True, True]
    assert not torch.backends.cudnn.benchmark


def fail(_: Inputs) -> None:
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


def test_random_numbers_go_on_after_a_recording_that_fails() -> None:
    with playing_a_gpu() as gpu:
        with pytest.raises(CannotRecordError, match=r"not permitted .* capturing$"):
            CudaRecorder(gpu).record(fail, {})
        generator: Any = torch.cuda.default_generators[0]
        generator.graphsafe_set_state.assert_called_once_with(generator.clone_state())


@pytest.mark.parametrize("end", ["_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"])
def test_a_recording_that_cannot_end_is_undone(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """PyTorch leaves its stream and its allocator as they are then."""

    @contextmanager
    def cannot_end(*_: Any, **__: Any) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    done: list[Any] = []
    monkeypatch.delattr(torch._C, "_cuda_endAllocateToPool", raising=False)
    for name, what in ((end, "end"), ("_cuda_releasePool", "release")):
        note = partial(lambda what, *given: done.append((what, *given)), what)
        monkeypatch.setattr(torch._C, name, note, raising=False)
    with playing_a_gpu() as gpu:
        monkeypatch.setattr(torch.cuda, "graph", cannot_end)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "the stream before")
        monkeypatch.setattr(torch.cuda, "set_stream", done.append)
        pool = torch.cuda.graph_pool_handle()
        with pytest.raises(CannotRecordError, match=r"not permitted .* capturing$"):
            CudaRecorder(gpu).record(fail, {})
    assert done == ["the stream before", ("end", 0, pool), ("release", 0, pool)]


def test_memory_that_does_not_suffice_for_a_recording_is_no_fault() -> None:
    def work(_: Inputs) -> None:
        raise NetError("the layer's tops do not fit into the memory.")

    with playing_a_gpu() as gpu, pytest.raises(CannotRecordError, match="do not fit"):
        CudaRecorder(gpu).record(work, {})
