"""Matches prior boxes with true boxes (SSD)."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.layers.detection.boxes import overlap

NOTHING, IGNORED = -1, -2
LEAST_OVERLAP = 1e-6


def match_boxes(
    boxes: Tensor,
    truth: Tensor,
    threshold: float,
    *,
    per_prediction: bool = True,
    ignored: Tensor | None = None,
    hard: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The true box that each box is matched with, and their overlap.

    First each true box gets the box that overlaps it most, the largest overlaps first; no box is
    given twice. Then, with `per_prediction`, every other box whose largest overlap reaches the
    threshold gets that true box.

    Args:
        boxes: (P, 4) as fractions.
        truth: (G, 4).
        ignored: mask (P,) of boxes that are matched with nothing.
        hard: mask (G,) of true boxes that are matched with nothing; boxes that overlap one are
            ignored, unless another true box has got them by a larger overlap.

    Returns:
        (P,), int64: the index of the true box, NOTHING or IGNORED; (P,): the overlap with the
        matched box, else the largest with any.
    """
    index = torch.full((len(boxes),), NOTHING, device=boxes.device)
    if not len(truth):
        return index, boxes.new_zeros(len(boxes))
    shared = overlap(boxes, truth)
    shared = shared.where(shared > LEAST_OVERLAP, 0)
    if ignored is not None:
        index[ignored] = IGNORED
        shared = shared.where(~ignored[:, None], 0)
    most, nearest = shared.max(1)
    open_pairs = shared.clone()
    if hard is not None and hard.any():
        nearest_hard = shared[:, hard].amax(1, keepdim=True)
        open_pairs = open_pairs.where((shared > nearest_hard) & ~hard, 0)
    for _ in range(len(truth)):
        place = int(open_pairs.argmax())
        box, true = divmod(place, len(truth))
        value = open_pairs[box, true].clone()
        if value <= 0:
            break
        index[box] = true
        most[box] = value
        open_pairs[box] = 0
        open_pairs[:, true] = 0
    if hard is not None and hard.any():
        index[(index == NOTHING) & (shared[:, hard] > 0).any(1)] = IGNORED
    if per_prediction:
        near = (index == NOTHING) & (most >= threshold) & (most > 0)
        index = nearest.where(near, index)
    return index, most


def outside(boxes: Tensor) -> Tensor:
    """A mask (...) of the boxes (..., 4), as fractions, with a corner below 0 or above 1."""
    return ((boxes < 0) | (boxes > 1)).any(-1)
