"""A piece of work that is recorded once as a CUDA graph and then runs in one call.

A training step of a small net is hundreds of kernels that take less time to run than the host takes
to queue them. A graph queues all of them at once. It repeats exactly what was recorded: the same
kernels on the same memory with the same Python numbers. So the work must not read values back, its
inputs are copied into tensors that stay, and whatever else it depends on is part of a key; with
another key it is recorded anew. Random numbers are new each time: PyTorch moves the generator on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from moka.engine.host_reads import HostReads, noting_host_reads

log = logging.getLogger("moka.detail")

T = TypeVar("T")
Inputs = Mapping[str, Tensor]

WARM_UPS = 3  # libraries choose their algorithms and make their work spaces in the first calls
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
    """Records CUDA graphs.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, work: Callable[[], T]) -> T:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            result = work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return result

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        graph = torch.cuda.CUDAGraph()
        # Threads that prepare batches may call CUDA meanwhile, so only this thread is watched.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            result = work()

        def replay() -> T:
            graph.replay()
            return result

        return replay


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
        self._warm_ups = warm_ups
        self.refusal: str | None = None
        self.recordings = 0
        self._work = work
        self._recorder = recorder
        self._key: Hashable = None
        self._calls = 0  # with this key
        self._static: dict[str, Tensor] = {}
        self._replay: Callable[[], T] | None = None

    def __call__(self, inputs: Inputs, key: Hashable) -> T:
        """Do the work.

        Args:
            inputs: tensors by name.
            key: what the work depends on beside their values, and its results are not good for
                another.

        Returns:
            The results. Of a recording they are the same tensors each time.
        """
        if self.refusal is not None:
            return self._work(inputs, None)
        key = (key, tuple((name, x.shape, x.dtype, x.stride()) for name, x in inputs.items()))
        if key != self._key:
            self._forget()
            self._key = key
        self._calls += 1
        if self._calls <= self._warm_ups:
            return self._warm_up(inputs)
        replay = self._replay or self._record(inputs)
        if replay is None:
            return self._work(inputs, None)
        for name, tensor in self._static.items():
            tensor.copy_(inputs[name], non_blocking=True)
        return replay()

    def _forget(self) -> None:
        self._calls = 0
        self._static, self._replay = {}, None

    def _warm_up(self, inputs: Inputs) -> T:
        if self._calls > 1:
            return self._recorder.warm_up(lambda: self._work(inputs, None))
        with noting_host_reads() as reads:
            result = self._recorder.warm_up(lambda: self._work(inputs, reads))
        if reads.found:
            self.refuse(reads.found[0])
        return result

    def _record(self, inputs: Inputs) -> Callable[[], T] | None:
        """Record the work; returns what does it, None if it cannot be recorded."""
        if self.recordings == MOST_RECORDINGS:
            self.refuse(f"it has changed {MOST_RECORDINGS} times")
            return None
        self.recordings += 1
        self._static = {name: x.clone() for name, x in inputs.items()}
        try:
            self._replay = self._recorder.record(lambda: self._work(self._static, None))
        except RuntimeError as error:
            self.refuse(str(error).partition("\n")[0])
            return None
        log.debug("A step is recorded, and runs as a CUDA graph from now on.")
        return self._replay

    def refuse(self, why: str) -> None:
        """Let the work run by itself from now on."""
        self._forget()
        self.refusal = f"A step runs without a CUDA graph: {why}."
        log.debug("%s", self.refusal)
