"""Mixed precision: a net computes in bfloat16 where that is fast and does little harm.

Matrix products and convolutions take bfloat16 (8 bits of precision, the range of float32) and add
up in float32; layers that only choose or pass on values work on whatever they get. All others, such
as losses and normalization, get float32. Parameters and their gradients are always float32.
Micikevicius et al., 2018; Kalamkar et al., 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from moka.net import Net

T = TypeVar("T")


def in_bfloat16(net: Net) -> AbstractContextManager[Any]:
    """Inside this context layers multiply matrices in bfloat16."""
    return torch.autocast(net.device.type, torch.bfloat16)


def feed_others_float32(net: Net) -> None:
    """Give bottoms in float32 to every layer that does not work in bfloat16."""
    for layer in net.layers:
        if layer.precision == "float32":
            layer.register_forward_pre_hook(_to_float32)
            # Many layers repeat a pass without a call, which the hook would see.
            layer.again = partial(_again_in_float32, layer.again)  # type: ignore[method-assign]


def _again_in_float32(again: Callable[..., T], *bottoms: Tensor) -> T:
    return again(*_as_float32(bottoms))


def _to_float32(_: nn.Module, bottoms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return _as_float32(bottoms)


def _as_float32(bottoms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.float() if x.dtype == torch.bfloat16 else x for x in bottoms)
