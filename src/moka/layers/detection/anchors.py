"""Anchors: the boxes of several sizes and shapes around each cell that R-CNN's proposals start at,
and how proposals are chosen from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from moka.layers.detection.boxes import apply_deltas, clip_to_image
from moka.layers.detection.nms import Suppression, best_boxes

RATIOS = (0.5, 1.0, 2.0)
SCALES = (8.0, 16.0, 32.0)


def base_anchors(
    base_size: float = 16,
    ratios: Sequence[float] = RATIOS,
    scales: Sequence[float] = SCALES,
    half_up: bool = False,
) -> Tensor:
    """Anchors (A, 4) of the first cell, in pixels, in double: for each ratio one for each scale.

    A square of base_size pixels with its corner at 0 becomes, for each ratio (height / width), a
    box of about the same area with whole sides, which is then enlarged by each scale around its
    center. A half is rounded to the even number, as NumPy does, or up, as Faster R-CNN's C++ does.
    """
    ratio = torch.tensor(ratios or RATIOS, dtype=torch.float64)
    scale = torch.tensor(scales or SCALES, dtype=torch.float64)
    width = _rounded((base_size * base_size / ratio).sqrt(), half_up)
    height = _rounded(width * ratio, half_up)
    sizes = torch.stack([width, height], 1)[:, None] * scale[:, None]
    reach = (sizes.flatten(0, 1) - 1) / 2
    center = (base_size - 1) / 2
    return torch.cat([center - reach, center + reach], 1)


def _rounded(x: Tensor, half_up: bool) -> Tensor:
    return (x + 0.5).floor() if half_up else x.round()


def grid_anchors(base: Tensor, height: int, width: int, stride: float) -> Tensor:
    """Anchors (height, width, A, 4): those of the first cell moved by `stride` pixels a cell."""
    x = torch.arange(width, dtype=base.dtype, device=base.device) * stride
    y = torch.arange(height, dtype=base.dtype, device=base.device) * stride
    down, across = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([across, down] * 2, -1)[:, :, None] + base


class Choice(NamedTuple):
    """The settings that say which proposals are kept.

    Attributes:
        min_size: least width and height, in pixels of the image before it was scaled.
        before: number of best proposals that enter the suppression; 0 or less: all.
        after: largest number of proposals that leave it; 0 or less: all.
        threshold: largest overlap (IoU) of two kept proposals.
        clip_before: whether boxes are cut to the image before the suppression.
        clip_after: whether boxes are cut to the image after the suppression.
        keep_small: whether a box below min_size stays, with score 0, instead of being dropped.
    """

    min_size: float = 16
    before: int = 6000
    after: int = 300
    threshold: float = 0.7
    clip_before: bool = True
    clip_after: bool = False
    keep_small: bool = False

    @property
    def suppression(self) -> Suppression:
        return Suppression(self.threshold, before=self.before, after=self.after)


def propose(
    scores: Tensor, deltas: Tensor, anchors: Tensor, im_info: Sequence[float], choice: Choice
) -> tuple[Tensor, Tensor]:
    """Proposals (K, 4) in pixels of one image and their scores (K,), the best first.

    Anchors are moved by the deltas, cut to the image, dropped (or given score 0) if they are
    smaller than min_size times the image's scale, sorted by score, and suppressed if they overlap
    a better one. A NaN drops a box.

    Args:
        scores: (A, H, W).
        deltas: (4 A, H, W), four for each anchor.
        anchors: (H, W, A, 4).
        im_info: height and width of the image in pixels, its scale (or its scales down and
            across).
    """
    height, width, down, across = (
        im_info[0],
        im_info[1],
        im_info[2],
        im_info[min(3, len(im_info) - 1)],
    )
    score = scores.permute(1, 2, 0).flatten()
    moves = deltas.permute(1, 2, 0).reshape(-1, 4)
    boxes = apply_deltas(anchors.reshape(-1, 4), moves)
    if choice.clip_before:
        boxes = clip_to_image(boxes, height, width)
    size = boxes[:, 2:] - boxes[:, :2] + 1
    large = (size[:, 0] >= choice.min_size * across) & (size[:, 1] >= choice.min_size * down)
    sound = ~(score.isnan() | boxes.isnan().any(1))
    if choice.keep_small:
        score = score.where(large, 0)
    else:
        sound &= large
    index = sound.nonzero()[:, 0]
    kept = index[best_boxes(boxes[index], score[index], choice.suppression)]
    best = boxes[kept]
    return clip_to_image(best, height, width) if choice.clip_after else best, score[kept]
