"""The layer that marks where sequences start, for nets whose data does not say it."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.source import Source
from moka.types import Shape


@layer("ContinuationIndicator", bottoms=0, tops=1, fork="warpctc-caffe", source="fillers")
class ContinuationIndicator(Source):
    """What LSTM takes as `cont`: 0 at the first timestep, 1 at all others.

    Top: (time_step, batch_size). Message: continuation_indicator_param.

    Errors: no time_step or batch_size.
    """

    time_step: int = option(positive)
    batch_size: int = option(positive)

    def top_shapes(self) -> list[Shape]:
        return [(self.time_step, self.batch_size)]

    def forward(self) -> list[Tensor]:
        cont = torch.ones(self.time_step, self.batch_size)
        cont[0] = 0
        return [cont]
