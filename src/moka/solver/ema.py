"""Weights averaged over the updates, which often test better than those of the last one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from moka.errors import SolverError
from moka.schema.caffe_pb2 import SolverParameter


class AveragedWeights:
    """An exponential moving average of every parameter (statistics such as BatchNorm's too):
    average = decay * average + (1 - decay) * w, beginning with the w of the first update.

    Polyak and Juditsky, 1992, is the idea; this form forgets the beginning.

    Args:
        parameters: what is averaged.
        decay: from 0 (the weights themselves) to less than 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self.decay = decay
        self._average: list[Tensor] = []  # none before the first update

    @property
    def _weights(self) -> list[Tensor]:
        return [p.detach() for p in self._parameters]

    @property
    def started(self) -> bool:
        """Whether there is an average yet."""
        return bool(self._average)

    def update(self) -> None:
        """Take in the weights of one more update."""
        if self._average:
            torch._foreach_lerp_(self._average, self._weights, 1 - self.decay)
        else:
            self.restart()

    def restart(self) -> None:
        """Begin with the weights as they are."""
        self._average = [w.clone() for w in self._weights]

    def forget(self) -> None:
        """Begin with the weights of the next update."""
        self._average = []

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside of it the parameters are the averaged ones, if there is an average."""
        kept = [w.clone() for w in self._weights]
        if self._average:
            torch._foreach_copy_(self._weights, self._average)
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, kept)


def check_average(config: SolverParameter) -> None:
    """Raises SolverError for a decay out of range, or tests with an average that is not kept."""
    if not 0 <= config.ema_decay < 1:
        raise SolverError(f"ema_decay must be in [0, 1), got {config.ema_decay:g}.")
    if config.test_with_ema and not config.ema_decay:
        raise SolverError("test_with_ema needs ema_decay, say 0.999.")
