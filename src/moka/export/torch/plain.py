"""Functions of plain PyTorch, whose source is copied into the files that call them.

They use nothing but torch and each other. Their names begin with `_`, as no variable of such a file
does.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _boxes(offsets: Tensor, priors: Tensor, code: str) -> Tensor:
    """Boxes (..., 4), corners x1, y1, x2, y2, that offsets describe relative to prior boxes."""
    if code == "CORNER":
        return priors + offsets
    size = priors[..., 2:] - priors[..., :2]
    if code == "CORNER_SIZE":
        return priors + offsets * torch.cat([size, size], -1)
    center = offsets[..., :2] * size + (priors[..., :2] + priors[..., 2:]) / 2
    size = offsets[..., 2:].exp() * size
    return torch.cat([center - size / 2, center + size / 2], -1)


def _suppress(boxes: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes (K, 4), the best first, that overlap no better one by more."""
    x1, y1, x2, y2 = boxes.unbind(1)
    area = ((x2 - x1) * (y2 - y1)).where((x2 >= x1) & (y2 >= y1), 0)
    left = torch.arange(len(boxes), device=boxes.device)
    kept = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        width = torch.minimum(x2[first], x2[left]) - torch.maximum(x1[first], x1[left])
        height = torch.minimum(y2[first], y2[left]) - torch.maximum(y1[first], y1[left])
        shared = width.clamp(min=0) * height.clamp(min=0)
        left = left[~(shared / (area[first] + area[left] - shared) > threshold)]
    return torch.stack(kept) if kept else left


def _detect(
    offsets: Tensor,
    scores: Tensor,
    priors: Tensor,
    *,
    classes: int,
    background: int,
    code: str,
    scaled: bool,
    clip: bool,
    lowest: float,
    threshold: float,
    top_k: int | None,
    keep_top_k: int | None,
) -> Tensor:
    """Rows (1, 1, K, 7) of image, label, score and corners; of -1 if there is nothing at all."""
    given, variances = priors.reshape(2, -1, 1, 4)
    images = len(scores)
    offsets = offsets.reshape(images, len(given), -1, 4)
    boxes = _boxes(offsets if scaled else offsets * variances, given, code)
    if clip:
        boxes = boxes.clamp(0, 1)
    scores = scores.reshape(images, -1, classes)
    found = [scores.new_zeros(0, 7)]
    for image in range(images):
        rows = [scores.new_zeros(0, 7)]
        for label in range(classes):
            score = scores[image, :, label]
            index = (score > lowest).nonzero()[:, 0] if label != background else None
            if index is None or not len(index):
                continue
            index = index[score[index].argsort(descending=True, stable=True)][:top_k]
            corners = boxes[image, index, label if boxes.shape[2] > 1 else 0]
            best = _suppress(corners, threshold)
            place = scores.new_tensor([image, label]).expand(len(best), 2)
            rows.append(torch.cat([place, score[index[best], None], corners[best]], 1))
        all_rows = torch.cat(rows)
        order = all_rows[:, 2].argsort(descending=True, stable=True)[:keep_top_k]
        found.append(all_rows[order.sort()[0]])
    made = torch.cat(found)
    if not len(made):
        made = scores.new_full((images, 7), -1)
        made[:, 0] = torch.arange(images)
    return made[None, None]


def _lstm(
    driven: Tensor, cont: Tensor, weight: Tensor, h: Tensor | None = None, c: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """All h (T, N, D) and the last h and c (1, N, D) of an LSTM; a step multiplies the state that
    it takes over by cont (T, N)."""
    start = driven.new_zeros(driven.shape[1], weight.shape[1])
    h, c = start if h is None else h[0], start if c is None else c[0]
    hidden = []
    for inputs, keep in zip(driven, cont[..., None], strict=True):
        i, f, o, g = (inputs + (h * keep) @ weight.t()).chunk(4, -1)
        c = keep * f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hidden.append(h)
    return torch.stack(hidden), h[None], c[None]


def _rnn(
    driven: Tensor, cont: Tensor, weight: Tensor, h: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All h (T, N, D) and the last h (1, N, D) of h = tanh(driven + weight (cont h))."""
    state = driven.new_zeros(driven.shape[1], weight.shape[1]) if h is None else h[0]
    hidden = []
    for inputs, keep in zip(driven, cont[..., None], strict=True):
        state = (inputs + (state * keep) @ weight.t()).tanh()
        hidden.append(state)
    return torch.stack(hidden), state[None]
