"""Weights averaged over the updates; they often test better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from moka.errors import SolverError
from moka.net import Net
from moka.schema.caffe_pb2 import SolverParameter
from moka.types import PathLike
from moka.weights import load_weights


class AveragedWeights:
    """An exponential moving average of every parameter (statistics such as BatchNorm's too):
    average = decay * average + (1 - decay) * w, starting from the w of the first update.

    The idea is Polyak and Juditsky's, 1992; this form forgets early weights.

    A snapshot keeps the average in a file of its own, a model.

    Args:
        parameters: the parameters to average.
        decay: from 0 (the weights themselves) to less than 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self.decay = decay
        self._average: list[Tensor] = []  # none before the first update

    @classmethod
    def of(
        cls, config: SolverParameter, parameters: Sequence[nn.Parameter]
    ) -> AveragedWeights | None:
        """The average that a solver's message asks for; None without ema_decay."""
        return cls(parameters, config.ema_decay) if config.ema_decay else None

    @property
    def _weights(self) -> list[Tensor]:
        return [p.detach() for p in self._parameters]

    @property
    def started(self) -> bool:
        """Whether there is an average yet."""
        return bool(self._average)

    def update(self) -> None:
        """Add the weights after one more update."""
        if self._average:
            torch._foreach_lerp_(self._average, self._weights, 1 - self.decay)
        else:
            self.restart()

    def restart(self) -> None:
        """Start from the present weights."""
        self._average = [w.clone() for w in self._weights]

    def load(self, net: Net, file: PathLike | None) -> None:
        """Go on from the averages in a model file; None: start from the next update's weights.

        Args:
            net: the net whose parameters are averaged; they keep their values.

        Raises:
            WeightsError: the file is missing or belongs to another net.
        """
        self._average = []
        if file is not None:
            with self.in_place():
                load_weights(net, [file])
                self.restart()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the parameters hold the averages, if there are any."""
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
