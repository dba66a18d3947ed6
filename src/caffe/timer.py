"""`caffe.Timer`: how long something takes."""

from __future__ import annotations

from time import perf_counter

import torch

from moka import context


class Timer:
    """A stop watch; in GPU mode it waits for what the GPU has been given to do."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._ms = 0.0

    def start(self) -> None:
        """Start; a timer that runs already goes on."""
        if self._started is None:
            self._started = _now()

    def stop(self) -> None:
        """Stop; `ms` then holds the time since `start`."""
        if self._started is not None:
            self._ms = (_now() - self._started) * 1e3
            self._started = None

    @property
    def ms(self) -> float:
        """Milliseconds from `start` to `stop`; a timer that runs is stopped. 0 before the first."""
        self.stop()
        return self._ms


def _now() -> float:
    where = context.device()
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return perf_counter()
