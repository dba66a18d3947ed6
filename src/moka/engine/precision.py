"""Mixed precision: a net computes in half precision where that is fast and does little harm.

Matrix products and convolutions take bfloat16 (8 bits of precision, the range of float32) or
float16 (11 bits, numbers from 6e-8 to 65504) and add up in float32; layers that only choose or pass
on values work on whatever they get. All others, such as losses and normalization, get float32.
Parameters and their gradients are always float32. Micikevicius et al., 2018; Kalamkar et al., 2019.

In float16 small gradients become 0. So the loss is multiplied by a `LossScale` before the backward
pass, and the gradients are divided by it after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from moka.layers.base import Way
from moka.net import Net
from moka.schema.caffe_pb2 import SolverParameter

FIRST_SCALE = 2.0**16
# The types in which matrices are multiplied, by what a solver asks for.
HALF = {SolverParameter.BF16: torch.bfloat16, SolverParameter.FP16: torch.float16}


def in_half(net: Net, half: torch.dtype | None) -> AbstractContextManager[Any]:
    """Inside this context layers multiply matrices in this type; None changes nothing."""
    return nullcontext() if half is None else torch.autocast(net.device.type, half)


@contextmanager
def in_tensor_float_32() -> Iterator[None]:
    """Inside this context a GPU may round the factors of products in float32 to 10 bits (TF32),
    which its matrix units multiply several times faster."""
    switches = _switches()
    before = [getattr(place, name) for place, name, _ in switches]
    for place, name, value in switches:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), old in zip(switches, before, strict=True):
            setattr(place, name, old)


def _switches() -> list[tuple[Any, str, str | bool]]:
    """PyTorch's switches for TF32, with names and values. Since 2.9 there are new ones, and it
    raises if an old one is read after a program has used those."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return [(place, "fp32_precision", "tf32") for place in (matmul, cudnn.conv, cudnn.rnn)]
    return [(matmul, "allow_tf32", True), (cudnn, "allow_tf32", True)]


class LossScale:
    """What a loss is multiplied by, so that no gradient leaves the range of float16.

    It begins large, is halved when a gradient overflows (this step is left out), and doubled after
    `WAIT` steps without overflow. Below 1 it does not go. All of it stays on the device.

    Args:
        device: where the net runs.
        first: where it begins.

    Attributes:
        value: the scale, a scalar on the device.
        good_steps: how many steps it has not changed, likewise.
    """

    WAIT = 2000  # as in PyTorch's GradScaler

    def __init__(self, device: torch.device, first: float = FIRST_SCALE) -> None:
        self.value = torch.full((), first, device=device)
        self.good_steps = torch.zeros((), dtype=torch.int32, device=device)

    def see(self, overflows: Tensor) -> None:
        """Adapt the scale after a step.

        Args:
            overflows: 1 if a gradient was not finite, else 0; a scalar on the device.
        """
        torch._amp_update_scale_(self.value, self.good_steps, overflows, 2.0, 0.5, self.WAIT)
        self.value.clamp_(min=1.0)


class InFloat32:
    """A way to run a layer that does not work in half precision: its bottoms become float32, and it
    computes in float32.

    Args:
        way: how it runs.
    """

    def __init__(self, way: Way) -> None:
        self._way = way

    def __call__(self, *bottoms: Tensor) -> Tensor | Sequence[Tensor]:
        with _without_autocast(bottoms):
            return self._way(*map(_in_single, bottoms))

    def again(self, *bottoms: Tensor) -> Tensor | Sequence[Tensor]:
        with _without_autocast(bottoms):
            return self._way.again(*map(_in_single, bottoms))


def _without_autocast(bottoms: Sequence[Tensor]) -> AbstractContextManager[Any]:
    return torch.autocast(bottoms[0].device.type, enabled=False)


def _in_single(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF.values() else x
