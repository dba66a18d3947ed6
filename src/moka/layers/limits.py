"""Values limited to an interval, with one gradient in every version of PyTorch."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor


def limited(x: Tensor, least: float = -inf, most: float = inf) -> Tensor:
    """min(max(x, least), most), whose gradient passes at the bounds themselves; NaN stays NaN.

    `clamp` does the same in the forward pass. Its gradient passes at the bounds up to PyTorch 2.13,
    and no longer from 2.14 on.
    """
    y = x.detach().clamp(least, most)
    return torch.where((x < least) | (x > most), y, x) if x.requires_grad else y
