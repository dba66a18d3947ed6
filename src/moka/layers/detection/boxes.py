"""Boxes as tensors (..., 4) of corners x1, y1, x2, y2: overlap, offsets from other boxes, clipping.

Two kinds of boxes are in use. SSD's are fractions of the image: a box from 0.2 to 0.5 is 0.3 wide.
R-CNN's are pixels, both corners included: a box from 2 to 5 is 4 wide. `pixels=True` (or the
argument `extra`, 0 or 1) says which.
"""

from __future__ import annotations

import torch
from torch import Tensor

CODES = ("CORNER", "CENTER_SIZE", "CORNER_SIZE")


def _edges(boxes: Tensor) -> tuple[Tensor, ...]:
    """Edges x1, y1, x2, y2 (...) of boxes (..., 4), each contiguous, for vector instructions."""
    return boxes.movedim(-1, 0).contiguous().unbind(0)


def area(boxes: Tensor, extra: int = 0) -> Tensor:
    """Areas (...) of boxes (..., 4); 0 if a corner lies on the wrong side of the other."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    valid = (x2 >= x1) & (y2 >= y1)
    return ((x2 - x1 + extra) * (y2 - y1 + extra)).where(valid, 0)


def intersection(a: Tensor, b: Tensor, extra: int = 0) -> Tensor:
    """Area (..., M, N) that each of a (..., M, 4) shares with each of b (..., N, 4)."""
    x1, y1, x2, y2 = (edge[..., :, None] for edge in _edges(a))
    u1, v1, u2, v2 = (edge[..., None, :] for edge in _edges(b))
    width = torch.minimum(x2, u2).sub_(torch.maximum(x1, u1))
    height = torch.minimum(y2, v2).sub_(torch.maximum(y1, v1))
    if extra:
        width, height = width.add_(extra), height.add_(extra)
    return width.clamp_(min=0).mul_(height.clamp_(min=0))


def overlap(a: Tensor, b: Tensor, extra: int = 0, over: str = "IOU") -> Tensor:
    """Overlap (..., M, N), from 0 to 1, of each of a (..., M, 4) with each of b (..., N, 4).

    Args:
        extra: 1 for boxes in pixels whose second corner is part of the box, else 0.
        over: what the shared area is divided by: IOU the area of both together, IOMU the smaller
            area, IOFU the area of the first box.
    """
    shared = intersection(a, b, extra)
    return (shared / _denominator(a, b, shared, extra, over)).where(shared > 0, 0)


def overlap_or_nan(a: Tensor, b: Tensor, extra: int = 0, over: str = "IOU") -> Tensor:
    """`overlap`, but NaN for a pair without area: faster, and neither is above a threshold."""
    shared = intersection(a, b, extra)
    return shared.div_(_denominator(a, b, shared, extra, over))


def _denominator(a: Tensor, b: Tensor, shared: Tensor, extra: int, over: str) -> Tensor:
    """The area (..., M, N) that the shared area of each pair is divided by; see `overlap`."""
    first, second = area(a, extra)[..., :, None], area(b, extra)[..., None, :]
    if over == "IOMU":
        return torch.minimum(first, second)
    if over == "IOFU":
        return first.expand_as(shared)
    return (first + second).sub_(shared)


def corners(centers: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (..., 4) from centers (..., 2) and sizes (..., 2), each x before y."""
    return torch.cat([centers - sizes / 2, centers + sizes / 2], -1)


def decode_boxes(offsets: Tensor, priors: Tensor, variances: Tensor | None, code: str) -> Tensor:
    """Boxes (..., P, 4) that offsets (..., P, 4) describe relative to prior boxes (..., P, 4).

    With w0, h0 the size of the prior box and c0 its center:
    CORNER adds the offset to each corner; CORNER_SIZE adds the offset times w0 or h0;
    CENTER_SIZE: center c0 + offset (w0, h0), size (w0, h0) exp(offset).

    Args:
        variances: (P, 4) or (..., P, 4), factors of the offsets; None: the offsets are scaled
            already.
        code: CORNER, CENTER_SIZE or CORNER_SIZE.
    """
    if variances is not None:
        offsets = offsets * variances
    if code == "CORNER":
        return priors + offsets
    size = priors[..., 2:] - priors[..., :2]
    if code == "CORNER_SIZE":
        return priors + offsets * torch.cat([size, size], -1)
    center = (priors[..., :2] + priors[..., 2:]) / 2
    return corners(offsets[..., :2] * size + center, offsets[..., 2:].exp() * size)


def decode_corners(moves: Tensor, priors: Tensor, variances: Tensor | None) -> Tensor:
    """Four corners (..., 8), x and y in turn, that moves (..., 8) make of boxes (..., 4).

    The corners of a box are its upper left, upper right, lower right and lower left one. Each moves
    by its move, times the first two variances (..., 4), times the box's width and height.
    """
    x1, y1, x2, y2 = priors.unbind(-1)
    corners = torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], -1)
    scale = torch.stack([x2 - x1, y2 - y1], -1)
    if variances is not None:
        scale = scale * variances[..., :2]
    return corners + moves * scale.repeat(*(1,) * (scale.dim() - 1), 4)


def encode_boxes(boxes: Tensor, priors: Tensor, variances: Tensor | None, code: str) -> Tensor:
    """Offsets (..., 4) that describe boxes (..., 4) relative to prior boxes: undoes `decode`."""
    if code == "CORNER":
        offsets = boxes - priors
    else:
        size = priors[..., 2:] - priors[..., :2]
        if code == "CORNER_SIZE":
            offsets = (boxes - priors) / torch.cat([size, size], -1)
        else:
            moved = (boxes[..., :2] + boxes[..., 2:] - priors[..., :2] - priors[..., 2:]) / 2
            grown = (boxes[..., 2:] - boxes[..., :2]) / size
            offsets = torch.cat([moved / size, grown.log()], -1)
    return offsets if variances is None else offsets / variances


def apply_deltas(boxes: Tensor, deltas: Tensor) -> Tensor:
    """R-CNN's regression: boxes (..., 4) in pixels moved and resized by deltas (..., 4).

    With w, h the size in pixels (both corners included) and the center at x1 + w / 2, y1 + h / 2:
    center + delta (w, h), size (w, h) exp(delta). The corners of the result lie half a size
    from the center, so the result is one pixel wider than a box of that size: R-CNN's way.
    """
    size = boxes[..., 2:] - boxes[..., :2] + 1
    center = boxes[..., :2] + 0.5 * size
    return corners(deltas[..., :2] * size + center, deltas[..., 2:].exp() * size)


def deltas_between(boxes: Tensor, targets: Tensor) -> Tensor:
    """R-CNN's regression targets (..., 4): deltas that lead from boxes to target boxes."""
    size = boxes[..., 2:] - boxes[..., :2] + 1
    wanted = targets[..., 2:] - targets[..., :2] + 1
    moved = targets[..., :2] + 0.5 * wanted - boxes[..., :2] - 0.5 * size
    return torch.cat([moved / size, (wanted / size).log()], -1)


def clip_to_image(boxes: Tensor, height: float | Tensor, width: float | Tensor) -> Tensor:
    """Boxes (..., 4) with corners moved to the nearest pixel of the image: x in [0, width - 1],
    y in [0, height - 1]. A NaN stays."""
    x, y = boxes[..., 0::2], boxes[..., 1::2]
    x, y = x.clamp(max=width - 1).clamp(min=0), y.clamp(max=height - 1).clamp(min=0)
    return torch.stack([x, y], -1).flatten(-2)
