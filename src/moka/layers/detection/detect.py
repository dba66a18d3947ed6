"""From scores and offsets of prior boxes to a list of detections: SSD's last step, as functions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from moka.layers.detection.boxes import decode_boxes, decode_corners
from moka.layers.detection.nms import kept_in_groups
from moka.layers.detection.ranks import order_by_group, places, rank_in_group

ROW = 7  # image, label, score, x1, y1, x2, y2


class DetectionLimits(NamedTuple):
    """The settings that say which detections are kept.

    Attributes:
        score: least score: a class counts where it is higher; None: everywhere.
        top_k: number of best boxes of a class that enter the suppression; -1: all.
        threshold, eta: of the suppression (see `nms.kept_of`).
        keep_top_k: number of best boxes of an image, over all classes, that are kept; -1: all.
        together: top_k and the suppression run over all classes of an image at once.
    """

    score: float | None
    top_k: int
    threshold: float
    eta: float
    keep_top_k: int
    together: bool = False


def split_priors(priors: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (P, 4) and variances (P, 4) of a blob of prior boxes (1, 2, 4 P)."""
    boxes, variances = priors.reshape(2, -1, 4)
    return boxes, variances


def detections(
    scores: Tensor,
    offsets: Tensor,
    priors: Tensor,
    variances: Tensor | None,
    code: str,
    background: int,
    limits: DetectionLimits,
    corners: Tensor | None = None,
    states: Tensor | None = None,
    *,
    clip: bool = False,
) -> Tensor:
    """Rows (K, 7) of image, label, score, x1, y1, x2, y2, by image, label and falling score.

    With `corners` x and y of four corners follow the box; with `states` its S values follow the
    score. If nothing at all is found: one row for each image, its index and then -1.

    Args:
        scores: (N, P, C).
        offsets: (N, P, L, 4), L = 1 if all classes share a box, else C.
        priors: (P, 4), or (N, P, 4) if each image has its own.
        variances: (P, 4), or None if the offsets are scaled already.
        code: how offsets describe a box (see `boxes.decode_boxes`).
        background: the label that counts as nothing; -1 if there is none.
        corners: (N, P, L, 8), moves of four corners of the prior boxes (see `decode_corners`).
        states: (N, P, S).
        clip: whether boxes are cut to the image before the suppression.
    """
    image, label, prior, score, place, groups = _candidates(scores, background, limits)
    label_of_box = label if offsets.shape[2] > 1 else torch.zeros_like(label)
    base = priors[prior] if priors.dim() == 2 else priors[image, prior]
    scale = None if variances is None else variances[prior]
    boxes = decode_boxes(offsets[image, prior, label_of_box], base, scale, code)
    if clip:
        boxes = boxes.clamp(0, 1)
    stays = _suppress(boxes, place, groups, limits)
    columns = [torch.stack([image.to(score), label.to(score), score], 1)]
    if states is not None:
        columns.append(states[image, prior])
    columns.append(boxes)
    if corners is not None:
        columns.append(decode_corners(corners[image, prior, label_of_box], base, scale))
    rows = torch.cat(columns, 1)[stays]
    if limits.together:
        rows = rows[(image * scores.shape[2] + label)[stays].argsort(stable=True)]
    if limits.keep_top_k >= 0:
        rows = rows[rank_in_group(rows[:, 2], rows[:, 0]) < limits.keep_top_k]
    return rows if len(rows) else nothing_found(scores, rows.shape[1])


def _candidates(
    scores: Tensor, background: int, limits: DetectionLimits
) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor], tuple[int, int]]:
    """The best `top_k` scores of each class of each image, by image, label and falling score; or of
    each image, by image and falling score.

    Returns:
        image, label, prior box, score of each, all (K,); its group (images x classes that have
        any, or images) and rank in it; the number of groups and the size of the largest.
    """
    classes = scores.shape[2]
    lowest = torch.finfo(scores.dtype).min if limits.score is None else limits.score
    by_class = scores.transpose(1, 2)
    wanted = by_class > lowest
    if 0 <= background < classes:
        wanted[:, background] = False
    if 0 < limits.top_k < scores.shape[1]:  # a quick choice first; equal scores are sorted below
        best = by_class.masked_fill(~wanted, -torch.inf).topk(limits.top_k, 2, sorted=False)[0]
        wanted &= by_class >= best.amin(2, keepdim=True)
    image, label, prior = wanted.nonzero().unbind(1)
    score = by_class[image, label, prior]
    key = image if limits.together else image * classes + label
    order = order_by_group(score, key)
    image, label, prior, score = (x[order] for x in (image, label, prior, score))
    group, rank, count = places(key[order])
    if limits.top_k >= 0:
        first = rank < limits.top_k
        image, label, prior, score, group, rank = (
            x[first] for x in (image, label, prior, score, group, rank)
        )
    most = int(rank.max()) + 1 if len(rank) else 0
    return image, label, prior, score, (group, rank), (len(count), most)


def _suppress(
    boxes: Tensor, place: tuple[Tensor, Tensor], groups: tuple[int, int], limits: DetectionLimits
) -> Tensor:
    """A mask (K,) of the boxes that stay when each group is suppressed by itself."""
    table = boxes.new_zeros(*groups, 4)
    valid = torch.zeros(groups, dtype=torch.bool, device=boxes.device)
    table[place] = boxes
    valid[place] = True
    return kept_in_groups(table, valid, limits.threshold, eta=limits.eta)[place]


def nothing_found(scores: Tensor, width: int = ROW) -> Tensor:
    """One row (width,) for each image of scores (N, ...): its index, then -1."""
    rows = scores.new_full((len(scores), width), -1.0)
    rows[:, 0] = torch.arange(len(scores), device=scores.device)
    return rows
