"""Base of layers whose formula changes from pass to pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from moka.layers.base import Layer


class PassCounter(Layer):
    """Base of layers that count their passes; a solver's snapshots keep the count.

    `again` is the formula; `forward` counts and computes it.

    Attributes:
        passes: how many passes there have been, with the one that is running.
    """

    passes = 0

    def forward(self, *bottoms: Any) -> Any:
        self.passes += 1
        return self.again(*bottoms)

    def run_state(self) -> list[Tensor]:
        return [torch.tensor([self.passes])]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        self.passes = int(tensors[0])
