"""A layer that joins a map with the center of a larger one, as U-Net does."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import require_axes
from moka.types import Shape


@layer("MergeCrop", bottoms=2, tops=1, fork="the OpenCL branch")
class MergeCrop(Layer):
    """Join a map with the center of a larger one: the channels of both (operation: STACK, the
    default), or their sum (ADD).

    Bottoms: (N, C, ...); (N, C2, ...) as large or larger along the axes from 2 on, of which the
    center is taken, beginning at (its size - size) / 2, rounded down. Top: (N, C + C2, ...) or (N,
    C, ...), of the size of bottom 0. `forward`: whether each bottom counts (else zeros in its
    place); `backward`: whether it takes a gradient, true and false by default. Message:
    mergecrop_param.

    Errors: bottoms of different numbers of items, or with ADD of channels; a bottom 1 that is
    smaller; more than two values of forward or backward.
    """

    operation: str = option()
    counts: tuple[bool, ...] = option(field="forward")
    learns: tuple[bool, ...] = option(field="backward")

    def setup(self, x: Shape, larger: Shape) -> None:
        for name, given in (("forward", self.counts), ("backward", self.learns)):
            if len(given) > 2:
                raise NetError(f"{name} takes a value for each of two bottoms, got {len(given)}.")
        self.counts += (True, True)[len(self.counts) :]
        self.learns += (True, False)[len(self.learns) :]

    def top_shapes(self, x: Shape, larger: Shape) -> list[Shape]:
        require_axes(2, x)
        stack = self.operation == "STACK"
        same = x[:1] == larger[:1] and (stack or x[1:2] == larger[1:2]) and len(x) == len(larger)
        if not same or any(b < a for a, b in zip(x[2:], larger[2:], strict=True)):
            raise NetError(f"cannot cut the center {x} out of a bottom of shape {larger}.")
        return [(x[0], x[1] + larger[1] if stack else x[1], *x[2:])]

    def forward(self, x: Tensor, larger: Tensor) -> Tensor:
        for axis in range(2, x.dim()):
            first = (larger.shape[axis] - x.shape[axis]) // 2
            larger = larger.narrow(axis, first, x.shape[axis])
        parts = [
            (part if learns else part.detach()) if counts else torch.zeros_like(part)
            for part, counts, learns in zip((x, larger), self.counts, self.learns, strict=True)
        ]
        return torch.cat(parts, 1) if self.operation == "STACK" else parts[0] + parts[1]
