"""Greedy non-maximum suppression: of boxes that overlap much, the one with the best score stays."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from moka.layers.detection.boxes import overlap, overlap_or_nan

BLOCK = 64  # boxes that are decided together
MOST = 512  # boxes a group up to which all pairs are compared at once
PAIRS = 1 << 18  # compared at once: they fit into a core's cache


def kept_of(
    boxes: Tensor,
    threshold: float,
    *,
    eta: float = 1.0,
    at_most: int | None = None,
    extra: int = 0,
    over: str = "IOU",
) -> Tensor:
    """Indices, rising, of the boxes that stay.

    Each box stays unless it overlaps one that stays before it by more than the threshold.

    Args:
        boxes: (M, 4), the best score first.
        threshold: from 0 to 1.
        eta: below 1, the threshold is multiplied by it each time a box stays, as long as the
            threshold is above 0.5.
        at_most: stop when this many boxes stay.
        extra, over: the kind of overlap (see `boxes.overlap`).
    """
    if eta < 1 and threshold > 0.5:
        return _one_by_one(boxes, threshold, eta, at_most, extra, over)
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    count = 0
    while len(left) and (at_most is None or count < at_most):
        block, left = left[:BLOCK], left[BLOCK:]
        corners = boxes[block]
        stays = _stay(overlap_or_nan(corners, corners, extra, over), threshold)
        kept.append(block[stays])
        count += len(kept[-1])
        if len(left):
            hit = overlap_or_nan(corners[stays], boxes[left], extra, over) > threshold
            left = left[~hit.any(0)]
    found = torch.cat(kept) if kept else left
    return found if at_most is None else found[:at_most]


class Suppression(NamedTuple):
    """The settings that say which boxes of an image are kept.

    Attributes:
        threshold: largest overlap of two kept boxes.
        over: the measure of overlap (see `boxes.overlap`).
        before: number of best boxes that enter the suppression; 0 or less: all.
        after: largest number of boxes that leave it; 0 or less: all.
    """

    threshold: float
    over: str = "IOU"
    before: int = 0
    after: int = 0


def best_boxes(boxes: Tensor, scores: Tensor, limits: Suppression) -> Tensor:
    """Indices of the boxes (K, 4) in pixels that stay, the best score first."""
    order = scores.argsort(descending=True, stable=True)
    if limits.before > 0:
        order = order[: limits.before]
    after = limits.after if limits.after > 0 else None
    kept = kept_of(boxes[order], limits.threshold, at_most=after, extra=1, over=limits.over)
    return order[kept]


def kept_in_groups(boxes: Tensor, valid: Tensor, threshold: float, *, eta: float = 1.0) -> Tensor:
    """A mask (G, M) of the boxes that stay in each of several groups; boxes are fractions.

    Groups of about the same size are worked on together.

    Args:
        boxes: (G, M, 4), the best score of a group first.
        valid: (G, M), False for rows that are no boxes.
        threshold, eta: as in `kept_of`.
    """
    places = torch.arange(1, valid.shape[1] + 1, device=valid.device)
    size = (valid * places).amax(1) if valid.numel() else places[:0]  # no box comes after it
    order = size.argsort(descending=True)
    sizes: list[int] = size[order].tolist()
    stays = torch.zeros_like(valid)
    start = 0
    while start < len(sizes) and sizes[start] > 0:
        most = sizes[start]
        if (eta < 1 and threshold > 0.5) or most > MOST:
            row = order[start]
            index = valid[row].nonzero()[:, 0]
            stays[row, index[kept_of(boxes[row, index], threshold, eta=eta)]] = True
            start += 1
            continue
        end = start + 1
        last = min(len(sizes), start + PAIRS // most**2)
        while end < last and sizes[end] > most / 2:
            end += 1
        rows = order[start:end]
        some = boxes[rows, :most]
        found = _stay(overlap_or_nan(some, some), threshold, valid[rows, :most])
        stays[rows, :most] = found
        start = end
    return stays


def _stay(overlaps: Tensor, threshold: float, candidates: Tensor | None = None) -> Tensor:
    """A mask (..., M) of the candidates (by default all) that stay, from the overlaps (..., M, M)
    of all pairs, which are overwritten.

    A box is out if one before it stays and is too near. Repeating this for all boxes at once
    settles the first box in the first pass, and each pass settles at least the next one.
    """
    before = overlaps.gt_(threshold).triu_(1)
    if candidates is None:
        candidates = torch.ones(before.shape[:-1], dtype=torch.bool, device=before.device)
    stays = candidates
    while True:
        out = torch.matmul(stays[..., None, :].to(before.dtype), before)[..., 0, :] > 0.5
        again = candidates & ~out
        if torch.equal(again, stays):
            return stays
        stays = again


def _one_by_one(
    boxes: Tensor, threshold: float, eta: float, at_most: int | None, extra: int, over: str
) -> Tensor:
    """`kept_of` while the threshold falls: a box is judged by the threshold of its turn."""
    nearest = boxes.new_zeros(len(boxes))  # overlap with the nearest box that stays
    kept: list[int] = []
    for start in range(0, len(boxes), BLOCK):
        block, rest = boxes[start : start + BLOCK], slice(start + BLOCK, None)
        within: list[list[float]] = overlap(block, block, extra, over).tolist()
        stay: list[int] = []
        for k, near in enumerate(nearest[start : start + BLOCK].tolist()):
            if len(kept) + len(stay) == at_most:
                break
            limit = boxes.new_tensor(threshold).item()  # as exact as the overlaps
            if near > limit or any(within[j][k] > limit for j in stay):
                continue
            stay.append(k)
            if threshold > 0.5:
                threshold *= eta
        kept += [start + k for k in stay]
        if stay:
            near_stay = overlap(block[stay], boxes[rest], extra, over).amax(0)
            nearest[rest] = torch.maximum(nearest[rest], near_stay)
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
