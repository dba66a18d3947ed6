"""Images moved by a field of flow, and the length of such a field's vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.sampling import bilinear
from moka.layers.shapes import require_axes
from moka.types import Shape


@layer("FlowWarp", bottoms=2, tops=1, fork="FlowNet2")
class FlowWarp(Layer):
    """Moves an image back along a field of flow: y[p] = x[p + flow[p]], with bilinear weights.

    A place outside of the image, [0, width) x [0, height), gives `fill_value`: ZERO or
    NOT_A_NUMBER; beyond the last row and column the image goes on with them.

    Bottoms: images (N, C, H, W) and flow (N, 2, H, W), first x then y, in pixels. Top:
    (N, C, H, W). Message: flow_warp_param. Ilg et al., 2017 (FlowNet 2.0).

    Errors: bottoms of other shapes.
    """

    fill_value: str = option()

    def top_shapes(self, x: Shape, flow: Shape) -> list[Shape]:
        if len(x) != 4 or flow != (x[0], 2, *x[2:]):
            raise NetError(f"takes images (N, C, H, W) and flow (N, 2, H, W), got {x} and {flow}.")
        return [x]

    def forward(self, x: Tensor, flow: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] + flow[:, 1]
        columns = torch.arange(width, device=x.device, dtype=x.dtype) + flow[:, 0]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        zero = rows.new_zeros(())
        rows, columns = torch.where(inside, rows, zero), torch.where(inside, columns, zero)
        y = bilinear(x, rows, columns, repeat_edge=True)
        fill = 0.0 if self.fill_value == "ZERO" else float("nan")
        return torch.where(inside[:, None], y, y.new_full((), fill))


@layer("ChannelNorm", bottoms=1, tops=1, message=None, fork="FlowNet2")
class ChannelNorm(Layer):
    """The length of the vector of channels at each position: sqrt(sum over c of x[c]^2).

    Bottom: (N, C, ...). Top: (N, 1, ...). Where it is 0 its gradient is 0.

    Errors: a bottom of less than two axes.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        require_axes(2, x)
        return [(x[0], 1, *x[2:])]

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=1, keepdim=True)
