"""A piece of work that is recorded once as a CUDA graph and then runs in one call.

A training step of a small net is hundreds of kernels that take less time to run than the host takes
to queue them. A graph queues all of them at once. It repeats exactly what was recorded: the same
kernels on the same memory with the same Python numbers. So the work must not read values back, its
inputs are copied into tensors that stay, and whatever else it depends on is part of a key; with
another key it is recorded anew. Random numbers are new each time: PyTorch moves the generator on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from moka.engine.host_reads import HostReads, noting_host_reads

log = logging.getLogger("moka.detail")

T = TypeVar("T")
Inputs = Mapping[str, Tensor]

WARM_UPS = 3  # libraries choose their algorithms and make their work spaces in the first calls
MOST_KEYS = 2  # that have a recording at a time: the last pass of an iteration, and those before
MOST_RECORDINGS = 8  # of one work; what changes more often is not worth it


class Recorder(Protocol):
    """What records: CUDA, or a stand-in for tests."""

    def warm_up(self, work: Callable[[], T]) -> T:
        """Run work as it has to run before it can be recorded."""
        ...

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        """Record work, without doing it.

        Returns:
            what does it; the result's tensors are the same each time, with new values.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs. Meanwhile cuDNN measures its algorithms instead of guessing the fastest:
    that takes time for each new shape, and what is recorded keeps its shapes.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, work: Callable[[], T]) -> T:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream), _measured_algorithms():
            result = work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return result

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        graph = torch.cuda.CUDAGraph()
        # Threads that prepare batches may call CUDA meanwhile, so only this thread is watched.
        capture = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
        try:
            with _measured_algorithms(), capture:
                result = work()
        except RuntimeError:
            # PyTorch's generator may still be part of the recording, and then refuses to draw.
            generator = torch.cuda.default_generators[self._device.index]
            generator.graphsafe_set_state(generator.clone_state())
            raise

        def replay() -> T:
            graph.replay()
            return result

        return replay


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
        inputs: where the recorded work reads its inputs.
        replay: what does the recorded work; None: it is not recorded yet.
    """

    calls: int = 0
    inputs: dict[str, Tensor] = field(default_factory=dict)
    replay: Callable[[], T] | None = None


class Captured(Generic[T]):
    """Runs work; once it has warmed up, as a recording.

    Args:
        work: a function of tensors by name that queues work on their device and returns results
            there; and of what notes its host reads, if it is watched, which it may tell the names
            of layers.
        recorder: what records.
        warm_ups: calls before the recording; at least 1.

    Attributes:
        refusal: why the work runs by itself for good, as a sentence; None: it does not.
        recordings: how often it was recorded.
    """

    def __init__(
        self,
        work: Callable[[Inputs, HostReads | None], T],
        recorder: Recorder,
        warm_ups: int = WARM_UPS,
    ) -> None:
        self.refusal: str | None = None
        self.recordings = 0
        self._work = work
        self._recorder = recorder
        self._warm_ups = warm_ups
        self._known: dict[Hashable, _Recording[T]] = {}  # the latest key last

    def __call__(self, inputs: Inputs, key: Hashable) -> T:
        """Do the work.

        Args:
            inputs: tensors by name.
            key: what the work depends on beside their values and shapes.

        Returns:
            The results. Of a recording they are the same tensors each time.
        """
        if self.refusal is not None:
            return self._work(inputs, None)
        shapes = tuple((name, x.shape, x.dtype, x.stride()) for name, x in inputs.items())
        recording = self._of((key, shapes))
        recording.calls += 1
        if recording.calls <= self._warm_ups:
            return self._warm_up(inputs, is_first=recording.calls == 1)
        if recording.replay is None:
            self._record(recording, inputs)
        if recording.replay is None:
            return self._work(inputs, None)
        for name, tensor in recording.inputs.items():
            tensor.copy_(inputs[name], non_blocking=True)
        return recording.replay()

    def refuse(self, why: str) -> None:
        """Let the work run by itself from now on."""
        self._known.clear()
        self.refusal = f"A step runs without a CUDA graph: {why}."
        log.debug("%s", self.refusal)

    def _of(self, key: Hashable) -> _Recording[T]:
        if key not in self._known:
            self._known[key] = _Recording()
            for old in list(self._known)[:-MOST_KEYS]:
                del self._known[old]
        return self._known[key]

    def _warm_up(self, inputs: Inputs, *, is_first: bool) -> T:
        if not is_first:
            return self._recorder.warm_up(lambda: self._work(inputs, None))
        with noting_host_reads() as reads:
            result = self._recorder.warm_up(lambda: self._work(inputs, reads))
        if reads.found:
            self.refuse(reads.found[0])
        return result

    def _record(self, recording: _Recording[T], inputs: Inputs) -> None:
        """Record the work, if that can be done."""
        if self.recordings == MOST_RECORDINGS:
            self.refuse(f"it has changed {MOST_RECORDINGS} times")
            return
        self.recordings += 1
        recording.inputs = {name: x.clone() for name, x in inputs.items()}
        try:
            recording.replay = self._recorder.record(lambda: self._work(recording.inputs, None))
        except RuntimeError as error:
            self.refuse(str(error).partition("\n")[0].rstrip("."))
            return
        log.debug("A step is recorded, and runs as a CUDA graph from now on.")
