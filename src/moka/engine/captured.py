"""A piece of work that is recorded once and then runs in one call.

A training step of a small net is hundreds of kernels that take less time to run than Python takes
to call them. On a GPU a CUDA graph queues all of them at once; on a CPU a tape runs them in a row
(`moka.engine.tape`). Either repeats exactly what was recorded: the same kernels with the same
Python numbers. So the work must not read values back, and whatever it depends on beside its inputs
is part of a key; with another key it is recorded anew. Random numbers are new each time: PyTorch
moves the generator on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from moka.engine.host_reads import HostReads, noting_host_reads
from moka.errors import MokaError

log = logging.getLogger("moka.detail")

T = TypeVar("T")
Inputs = Mapping[str, Tensor]

WARM_UPS = 3  # libraries choose their algorithms and make their work spaces in the first calls
MOST_KEYS = 2  # that have a recording at a time: the last pass of an iteration, and those before
MOST_RECORDINGS = 8  # of one work; what changes more often is not worth it
MOST_UNRECORDED = 16  # that have made place for others before they were recorded


class CannotRecordError(Exception):
    """Work cannot be recorded.

    Args:
        why: the end of a sentence.
        result: of the work, if it has been done all the same.
    """

    def __init__(self, why: str, *result: Any) -> None:
        super().__init__(why)
        self.why, self.result = why, result


class Recorder(Protocol):
    """What records."""

    def warm_up(self, work: Callable[[], T], *, is_first: bool) -> T:
        """Run work as it has to run before it can be recorded.

        Args:
            is_first: it has not run with inputs of these shapes yet.
        """
        ...

    def record(self, work: Callable[[Inputs], T], inputs: Inputs) -> Callable[[Inputs], T]:
        """Record work.

        Returns:
            what does it with inputs of the same names and shapes; its first call is the first time
            that the work counts as done, and has these inputs. On a GPU its results are the same
            tensors each time, with new values.

        Raises:
            CannotRecordError: it cannot be recorded.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs. From the second warm-up on, cuDNN measures its algorithms instead of
    guessing the fastest: that takes up to seconds for each new shape, and cannot be done while a
    graph is recorded; what is recorded keeps its shapes.

    The graphs share their memory: none runs before another one has ended.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # PyTorch hands out 32 streams of each priority in turns. Those that copy batches have
        # another priority, so that none of them is this one.
        self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], T], *, is_first: bool) -> T:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        measured = nullcontext() if is_first else _measured_algorithms()
        with torch.cuda.stream(self._stream), measured:
            result = work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return result

    def record(self, work: Callable[[Inputs], T], inputs: Inputs) -> Callable[[Inputs], T]:
        graph = torch.cuda.CUDAGraph()
        places = {name: x.clone() for name, x in inputs.items()}  # where it reads its inputs
        before = torch.cuda.current_stream(self._device)
        capture = torch.cuda.graph(
            graph,
            self._pool,
            self._stream,
            # Threads that prepare batches may call CUDA meanwhile, so only this thread is watched.
            capture_error_mode="thread_local",
        )
        try:
            with _measured_algorithms(), capture:
                result = work(places)
        except (RuntimeError, MokaError) as error:  # layers tell in their own words of memory
            self._undo(before)
            first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            raise CannotRecordError(str(first).partition("\n")[0].rstrip(".")) from error

        def replay(given: Inputs) -> T:
            for name, place in places.items():
                place.copy_(given[name], non_blocking=True)
            graph.replay()
            return result

        return replay

    def _undo(self, stream: torch.cuda.Stream) -> None:
        """After a recording that has failed: an error at its end leaves PyTorch's stream, its
        allocator and its generator in it. The allocator would then keep each batch for ever.

        Args:
            stream: the current one before.
        """
        torch.cuda.set_stream(stream)
        with suppress(RuntimeError, AttributeError):  # it has ended, or is called otherwise
            _end_of_allocation()(self._device.index, self._pool)
            torch._C._cuda_releasePool(self._device.index, self._pool)
        generator = torch.cuda.default_generators[self._device.index]
        generator.graphsafe_set_state(generator.clone_state())


def _end_of_allocation() -> Any:
    library: Any = torch._C
    new = getattr(library, "_cuda_endAllocateToPool", None)
    return new or library._cuda_endAllocateCurrentStreamToPool  # PyTorch 2.6 has only this


@contextmanager
def _measured_algorithms() -> Iterator[None]:
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@dataclass
class _Recording(Generic[T]):
    """What is known of the work under one key.

    Attributes:
        calls: how often it was asked for.
        replay: what does the recorded work; None: it is not recorded yet.
    """

    calls: int = 0
    replay: Callable[[Inputs], T] | None = None


class Captured(Generic[T]):
    """Runs work; once it has warmed up, as a recording.

    Args:
        work: a function of tensors by name that queues work on their device and returns results
            there; and of what notes its host reads, if it is watched, which it may tell the names
            of layers.
        recorder: what records.
        warm_ups: calls before the recording; at least 1, for CUDA 2.
        obstacle: asked for each key: why the work cannot be recorded, as the end of a sentence;
            None if nothing is known against it.

    Attributes:
        refusal: why the work runs by itself for good, as a sentence; None: it does not.
        recordings: how often it was recorded.
    """

    def __init__(
        self,
        work: Callable[[Inputs, HostReads | None], T],
        recorder: Recorder,
        warm_ups: int = WARM_UPS,
        obstacle: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.refusal: str | None = None
        self.recordings = 0
        self._work = work
        self._recorder = recorder
        self._warm_ups = warm_ups
        self._obstacle = obstacle
        self._known: dict[Hashable, _Recording[T]] = {}  # the latest key last
        self._looked_at: list[Hashable] = []  # keys, without shapes: watching work takes long
        self._unrecorded = 0  # keys and shapes that have made place for others

    def __call__(self, inputs: Inputs, key: Hashable) -> T:
        """Do the work.

        Args:
            inputs: tensors by name.
            key: what the work depends on beside their values and shapes.
        """
        if self.refusal is None:
            shapes = tuple([(name, x.shape, x.dtype, x.stride()) for name, x in inputs.items()])
            recording = self._of((key, shapes))
            if recording.replay is not None:
                return recording.replay(inputs)
            recording.calls += 1
            is_new = key not in self._looked_at
            if is_new and (why := self._obstacle()):
                self.refuse(why)
            elif is_new:
                self._looked_at = [*self._looked_at, key][-MOST_KEYS:]
                return self._watched(inputs)
            elif self._unrecorded > MOST_UNRECORDED:
                self.refuse("its inputs change their shapes too often")
            elif recording.calls <= self._warm_ups:
                is_first = recording.calls == 1
                return self._recorder.warm_up(lambda: self._work(inputs, None), is_first=is_first)
            elif self.recordings == MOST_RECORDINGS:
                self.refuse(f"it has changed {MOST_RECORDINGS} times")
            else:
                return self._record(recording, inputs)
        return self._work(inputs, None)

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, which has other work to record."""
        return {**vars(self), "_known": {}, "_looked_at": []}

    def refuse(self, why: str) -> None:
        """Let the work run by itself from now on."""
        self._known.clear()
        self.refusal = f"A step is not recorded: {why}."
        log.debug("%s", self.refusal)

    def _of(self, key: Hashable) -> _Recording[T]:
        found = self._known[key] = self._known.pop(key) if key in self._known else _Recording()
        if len(self._known) > MOST_KEYS:
            oldest = self._known.pop(next(iter(self._known)))
            self._unrecorded += oldest.replay is None
        return found

    def _watched(self, inputs: Inputs) -> T:
        """Do the work and see whether it reads anything back."""
        with noting_host_reads() as reads:
            result = self._recorder.warm_up(lambda: self._work(inputs, reads), is_first=True)
        if reads.found:
            self.refuse(reads.found[0])
        return result

    def _record(self, recording: _Recording[T], inputs: Inputs) -> T:
        """Record the work, if that can be done; returns what it gives this time."""
        self.recordings += 1
        try:
            replay = self._recorder.record(lambda given: self._work(given, None), inputs)
        except CannotRecordError as error:
            self.refuse(error.why)
            return error.result[0] if error.result else self._work(inputs, None)
        recording.replay = replay
        log.debug("A step is recorded, and runs as one call from now on.")
        return replay(inputs)
