"""A Gaussian filter over points of many dimensions: the permutohedral lattice.

Each point shares its value among the d + 1 corners of the simplex it lies in, values are blurred
from corner to corner along d + 1 directions, and each point takes its shares back. This takes time
in proportion to the points, where the exact sum takes time in proportion to their square.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.errors import DataError

LIMIT = 2**62  # codes of corners stay below it


class Lattice:
    """The lattice of some points: `filter` sums values over near points, with weights that fall
    about as exp(-distance^2 / 2). Adams et al., 2010.

    Args:
        features: the points (M, d), in units of the filter's standard deviation.

    Raises:
        DataError: a point that is not finite, or points too far apart for whole numbers.
    """

    def __init__(self, features: Tensor) -> None:
        if not features.isfinite().all():
            raise DataError("an image or its size has a value that is not finite.")
        d = features.shape[1]
        remainder, rank, weights = _simplex(features.double())
        corners = _corners(remainder, rank)  # (M, d + 1, d)
        strides = _strides(corners)
        codes, corner = torch.unique((corners * strides).sum(2), return_inverse=True)
        self.corner = corner
        self.weight = weights.to(features.dtype)
        # The same shares, corner by corner: of which point, how much, and where a corner begins.
        order = corner.flatten().argsort(stable=True)
        self.point = order // (d + 1)
        self.share = self.weight.flatten()[order]
        counts = torch.bincount(corner.flatten(), minlength=len(codes))
        self.first = counts.cumsum(0) - counts
        self.neighbors = _neighbors(codes, strides)
        self.scale = 1 / (1 + 2.0**-d)

    def filter(self, values: Tensor) -> Tensor:
        """The filtered values (M, K) of values (M, K)."""
        nodes = F.embedding_bag(
            self.point, values, self.first, mode="sum", per_sample_weights=self.share
        )
        for before, after in self.neighbors:
            nodes = _Blur.apply(nodes, before, after)  # type: ignore[no-untyped-call]
        taken = F.embedding_bag(self.corner, nodes, mode="sum", per_sample_weights=self.weight)
        return taken * self.scale


class _Blur(Function):
    """The nodes (S, K), each with half of both its neighbors in one direction, whose indices are
    (S,). Since each is its neighbors' neighbor the gradient is blurred in the same way."""

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, before: Tensor, after: Tensor) -> Tensor:
        ctx.save_for_backward(before, after)
        return _blurred(nodes, before, after)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _blurred(grads[0], *ctx.saved_tensors), None, None


def _blurred(nodes: Tensor, before: Tensor, after: Tensor) -> Tensor:
    nothing = nodes.new_zeros(1, nodes.shape[1])  # the neighbor of nodes that have none
    padded = torch.cat([nodes, nothing])
    return nodes + 0.5 * (padded[before] + padded[after])


def _simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where points lie: the nearest corner whose coordinates are 0 modulo d + 1 (M, d + 1), the
    rank of each coordinate's distance from it (M, d + 1), and the shares of the corners (M, d + 1).
    """
    count, d = features.shape
    index = torch.arange(1, d + 1, device=features.device, dtype=features.dtype)
    scaled = features * ((2 / 3) ** 0.5 * (d + 1) / (index * (index + 1)).sqrt())
    # Onto the plane of d + 1 coordinates with sum 0.
    behind = scaled.flip(1).cumsum(1).flip(1)
    elevated = torch.cat([behind, torch.zeros_like(behind[:, :1])], 1)
    elevated[:, 1:] -= scaled * index
    remainder = _nearest_multiple(elevated, d + 1)
    total = (remainder.sum(1, keepdim=True) / (d + 1)).round().long()
    apart = elevated - remainder
    before = apart[:, :, None] < apart[:, None, :]  # [i, j]: i counts behind j
    equal = (apart[:, :, None] == apart[:, None, :]).tril(-1)
    rank = (before | equal).sum(2) + total
    low, high = rank < 0, rank > d
    rank = rank + (d + 1) * (low.long() - high.long())
    remainder = remainder + (d + 1) * (low.to(remainder) - high.to(remainder))
    apart = (elevated - remainder) / (d + 1)
    shares = features.new_zeros(count, d + 2)
    shares.scatter_add_(1, d - rank, apart)
    shares.scatter_add_(1, d - rank + 1, -apart)
    shares[:, 0] += 1 + shares[:, d + 1]
    return remainder.long(), rank, shares[:, : d + 1]


def _nearest_multiple(values: Tensor, base: int) -> Tensor:
    """The nearest multiple of a number; of two as near the lower one."""
    up, down = (values / base).ceil() * base, (values / base).floor() * base
    return torch.where(up - values < values - down, up, down)


def _corners(remainder: Tensor, rank: Tensor) -> Tensor:
    """The first d coordinates of the d + 1 corners of each simplex, (M, d + 1, d)."""
    d = remainder.shape[1] - 1
    step = torch.arange(d + 1, device=rank.device)
    canonical = torch.where(
        step[None, :] <= d - step[:, None], step[:, None], step[:, None] - (d + 1)
    )
    return remainder[:, None, :d] + canonical[step[None, :, None], rank[:, None, :d]]


def _strides(corners: Tensor) -> Tensor:
    """Numbers (d,) that make one code of a corner's coordinates, for these corners (..., d) and
    their neighbors.

    Raises:
        DataError: the corners lie so far apart that there are none.
    """
    d = corners.shape[-1]
    flat = corners.reshape(-1, d)
    sizes = (flat.amax(0) - flat.amin(0) + 2 * d + 3).tolist()
    strides = [1] * d
    for k in reversed(range(d - 1)):
        strides[k] = strides[k + 1] * sizes[k + 1]
    if strides[0] * sizes[0] >= LIMIT or int(flat.abs().max()) * sum(strides) >= LIMIT:
        raise DataError(
            "values lie too far apart for the kernel's deviation.",
            advice="Check the images, or raise the deviations (xy_std and rgb_std, or theta).",
        )
    return torch.tensor(strides, device=corners.device)


def _neighbors(codes: Tensor, strides: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each of d + 1 directions, the indices of the corners before and after each corner (S,);
    S where there is none.

    Args:
        codes: of the corners, rising.
    """
    d = len(strides)
    found = []
    for direction in range(d + 1):
        step = torch.full_like(strides, -1)
        if direction < d:
            step[direction] = d
        move = (step * strides).sum()
        found.append((_lookup(codes, codes + move), _lookup(codes, codes - move)))
    return found


def _lookup(codes: Tensor, wanted: Tensor) -> Tensor:
    """The index of each wanted code among rising codes; their count where it is not there."""
    place = torch.searchsorted(codes, wanted)
    inside = place.clamp_max(len(codes) - 1)
    return place.where((place < len(codes)) & (codes[inside] == wanted), len(codes))
