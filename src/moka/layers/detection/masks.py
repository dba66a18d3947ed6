"""Masks of regions, as multi-task network cascades (MNC) use them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.grid import Weights, apply_grid, require_images
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.types import Shape


@lru_cache(maxsize=256)
def stretched_weights(size: int, out: int) -> Weights:
    """Bilinear weights of an axis whose output pixel i lies at i size / out of the input; beyond
    the last pixel the edge is repeated for half a pixel, and then everything is 0."""
    at = torch.arange(out, dtype=torch.float64) * (size / out)
    inside = at <= size - 0.5
    distance = at.clamp_max(size - 1)[:, None] - torch.arange(size)
    return (1 - distance.abs()).clamp_min(0) * inside[:, None]


@layer("MaskResize", bottoms=1, tops=1, fork="MNC")
class MaskResize(Layer):
    """Resize masks by bilinear interpolation.

    Output pixel i lies at i in / out of the input. Up to half a pixel beyond the last one the edge
    is repeated; further out, as for the last pixels of a mask that more than doubles, the top is 0.

    Bottom: masks (N, C, H, W). Top: (N, C, output_height, output_width). Message:
    mask_resize_param. Dai et al., 2016 (MNC).

    Errors: no output_height or output_width; a bottom that is not 4-D.

    MNC's gradient of a mask that grows leaves pixels of the top out; here it is exact.
    """

    output_height: int = option(positive)
    output_width: int = option(positive)

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_images(x)
        return [(*x[:2], self.output_height, self.output_width)]

    def forward(self, x: Tensor) -> Tensor:
        rows = stretched_weights(x.shape[2], self.output_height)
        return apply_grid(x, rows, stretched_weights(x.shape[3], self.output_width))


@layer("MaskPooling", bottoms=2, tops=1, coordinates="same", fork="MNC")
class MaskPooling(Layer):
    """Multiply all channels of a region's features by its mask.

    Bottoms: features (N, C, H, W); masks (N, 1, H, W). Top: the shape of the features. Both take
    gradients. No message. Dai et al., 2016 (MNC).

    Errors: masks of another number or size.
    """

    def top_shapes(self, x: Shape, mask: Shape) -> list[Shape]:
        require_images(x)
        if mask != (x[0], 1, *x[2:]):
            raise NetError(f"the masks must be {(x[0], 1, *x[2:])}, got shape {mask}.")
        return [x]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask
