"""Filters that smooth a map but for its edges."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.segmentation.crf import check_sizes, image_sizes
from moka.layers.shapes import refuse_empty_axes
from moka.types import Shape


def smoothed(x: Tensor, weight: Tensor, axis: int) -> Tensor:
    """x (..., H, W) after two recursive passes along an axis: forward y[i] = x[i] + weight[i]
    (y[i - 1] - x[i]), then backward z[i] = y[i] + weight[i + 1] (z[i + 1] - y[i]).

    Args:
        weight: (H, W), how much of its neighbor a pixel takes.
    """
    lines, weights = list(x.unbind(axis)), weight.unbind(axis)
    for i in range(1, len(lines)):
        lines[i] = lines[i] + weights[i] * (lines[i - 1] - lines[i])
    for i in reversed(range(len(lines) - 1)):
        lines[i] = lines[i] + weights[i + 1] * (lines[i + 1] - lines[i])
    return torch.stack(lines, axis)


class _ExpWithFloor(torch.autograd.Function):
    """max(exp(x), least), at most 1, whose derivative is its value."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, least: float) -> Tensor:
        y = x.exp().clamp(least, 1.0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(
        ctx: torch.autograd.function.BackwardCFunction, grad: Tensor
    ) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return grad * y, None


@layer(
    "DomainTransform",
    bottoms=3,
    tops=1,
    fixed_bottoms=(2,),
    fork="PSPNet and DeepLab",
)
class DomainTransform(Layer):
    """Smooth maps along rows and columns, but not across the edges of another map.

    In round k of num_iter, with s_k = spatial_sigma sqrt(3) 2^(num_iter - k) /
    sqrt(4^num_iter - 1), a pixel takes the share exp(-sqrt(2) / s_k (1 + g spatial_sigma /
    range_sigma)) of its neighbor, g the edge there, at least min_weight and at most 1: along rows
    from left to right and back, then along columns from top to bottom and back.

    Bottoms: maps (N, C, H, W); edges g (N, 1, H, W); height and width of each image (N, 2): what
    lies beyond them stays. Top: (N, C, H, W). The gradient reaches maps and edges, as if there were
    no min_weight. Message: domain_transform_param. Gastal and Oliveira, 2011; Chen et al., 2016.

    Errors: edges of another shape; a size beyond H x W; a sigma or a num_iter that is not above 0.
    """

    num_iter: int = option(positive)
    spatial_sigma: float = option(positive)
    range_sigma: float = option(positive)
    min_weight: float = option(not_negative)

    def top_shapes(self, x: Shape, edges: Shape, sizes: Shape) -> list[Shape]:
        if len(x) != 4 or edges != (x[0], 1, *x[2:]):
            raise NetError(
                f"takes maps (N, C, H, W) and edges (N, 1, H, W), got shapes {x} and {edges}."
            )
        refuse_empty_axes(x, first=1)
        check_sizes(x, sizes)
        return [x]

    def forward(self, x: Tensor, edges: Tensor, sizes: Tensor) -> Tensor:
        items = []
        for n, (h, w) in enumerate(image_sizes(sizes, *x.shape[2:])):
            y = x[n, :, :h, :w]
            for weight in self._weights(edges[n, 0, :h, :w]):
                y = smoothed(smoothed(y, weight, -1), weight, -2)
            full = torch.cat([y, x[n, :, :h, w:]], 2)
            items.append(torch.cat([full, x[n, :, h:]], 1))
        return torch.stack(items) if items else x * 1

    def _weights(self, edges: Tensor) -> Iterator[Tensor]:
        """The weight of each pixel's neighbor, in each round."""
        rounds = self.num_iter
        for k in range(1, rounds + 1):
            sigma = self.spatial_sigma * sqrt(3) * 2.0 ** (rounds - k) / sqrt(4.0**rounds - 1)
            exponent = -sqrt(2) / sigma * (1 + edges * (self.spatial_sigma / self.range_sigma))
            yield self._bounded(exponent)

    def _bounded(self, exponent: Tensor) -> Tensor:
        return _ExpWithFloor.apply(exponent, self.min_weight)  # type: ignore[no-untyped-call]


@layer(
    "DomainTransformForwardOnly",
    bottoms=3,
    tops=1,
    message="domain_transform_param",
    fork="PSPNet and DeepLab",
    differentiable=False,
)
class DomainTransformForwardOnly(DomainTransform):
    """DomainTransform without a gradient; its shares have no bounds, min_weight has no effect.

    Bottoms, top, message and errors: those of DomainTransform.
    """

    def forward(self, x: Tensor, edges: Tensor, sizes: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x, edges, sizes)

    def _bounded(self, exponent: Tensor) -> Tensor:
        return exponent.exp()
