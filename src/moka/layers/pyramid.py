"""Pooling at several scales at once."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.pooling import Windows, pooling
from moka.layers.registry import layer
from moka.layers.shapes import by, refuse_empty_axes
from moka.layers.window import Window, pooled_sizes
from moka.types import Shape


@layer("SPP", bottoms=1, tops=1, message="spp_param")
class SPP(Layer):
    """Spatial pyramid pooling: level l divides the image into 2^l x 2^l bins and pools each.

    Bottom: (N, C, H, W). Top: (N, C * sum of 4^l) over all levels; with one level (N, C, 1, 1).
    Level l has kernel ceil(in / bins), stride = kernel and pad (kernel * bins - in + 1) // 2.
    Message: spp_param (`engine` has no effect here). He et al., 2014.

    Errors: an image that is too small for its levels (pad >= kernel).
    """

    pyramid_height: int = option(positive, required=True)
    pool: str = option()
    engine: str = option()

    def setup(self, x: Shape) -> None:
        if len(x) != 4:
            raise NetError(f"pools images (N, C, H, W), got a bottom of shape {x}.")

    def levels(self, size: Shape) -> list[Windows]:
        """The windows of each level, along each axis."""
        levels = []
        for level in range(self.pyramid_height):
            bins = 2**level
            windows = []
            for n in size:
                kernel = -(-n // bins)
                windows.append(Window(kernel, kernel, (kernel * bins - n + 1) // 2))
            if any(w.pad >= w.kernel for w in windows):
                raise NetError(
                    f"an image of {by(size)} is too small for {self.pyramid_height} levels."
                )
            levels.append(tuple(windows))
        return levels

    def outs(self, size: Shape) -> list[Shape]:
        """How many windows each level lays along each axis."""
        return [pooled_sizes(size, windows) for windows in self.levels(size)]

    def top_shapes(self, x: Shape) -> list[Shape]:
        refuse_empty_axes(x, first=1)
        outs = self.outs(x[2:])
        if len(outs) == 1:
            return [(*x[:2], *outs[0])]
        return [(x[0], x[1] * sum(h * w for h, w in outs))]

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        pooled = [
            pooling(self.pool, x, windows, out, training=self.training)
            for windows, out in zip(self.levels(size), self.outs(size), strict=True)
        ]
        return pooled[0] if len(pooled) == 1 else torch.cat([p.flatten(1) for p in pooled], 1)
