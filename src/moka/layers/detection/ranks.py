"""Ranks by score within groups, such as the images of a batch, and random choices."""

from __future__ import annotations

import torch
from torch import Tensor


def order_by_group(score: Tensor, group: Tensor) -> Tensor:
    """The order (K,) that sorts by group and within it by falling score; equal ones stay as is."""
    order = score.argsort(descending=True, stable=True)
    return order[group[order].argsort(stable=True)]


def places(group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For groups (K,), equal ones next to each other: the number of each row's group, from 0, its
    place in the group, and the size of each group."""
    _, number, count = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    start = count.cumsum(0) - count
    return number, torch.arange(len(group), device=group.device) - start[number], count


def rank_in_group(score: Tensor, group: Tensor) -> Tensor:
    """Rank (K,), from 0, of each score among those of its group, the highest first."""
    order = order_by_group(score, group)
    rank = torch.empty_like(order)
    rank[order] = places(group[order])[1]
    return rank


def shuffled(index: Tensor, count: int) -> Tensor:
    """`count` of the indices (K,), at random if there are more."""
    if len(index) <= count:
        return index
    return index[torch.randperm(len(index))[:count].to(index.device)]
