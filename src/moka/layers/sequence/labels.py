"""Label sequences: read off class scores, compared with true ones."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape


def best_path(classes: Tensor, lengths: Tensor, blank: int, *, merge: bool = True) -> Tensor:
    """The labels of the most probable class of each timestep, without blanks.

    Args:
        classes: the class of each timestep (N, T), int64.
        lengths: the first timestep (N,) that no longer belongs to a sequence.
        blank: the class that is no label.
        merge: equal classes next to each other are one label.

    Returns:
        labels (N, T), each row filled up with -1.
    """
    steps = classes.shape[1]
    kept = classes != blank
    if merge:
        kept[:, 1:] &= classes[:, 1:] != classes[:, :-1]
    kept &= torch.arange(steps, device=classes.device) < lengths[:, None]
    return packed(classes, kept)


def packed(labels: Tensor, kept: Tensor) -> Tensor:
    """The labels (N, T) that are kept, moved to the front of each row; the rest is -1."""
    place = kept.cumsum(1) - 1
    out = torch.full_like(labels, -1)
    rows, columns = kept.nonzero(as_tuple=True)
    out[rows, place[rows, columns]] = labels[rows, columns]
    return out


def lengths_of(indicators: Tensor) -> Tensor:
    """Lengths (N,) of sequences from indicators (T, N): the first 0 after the first step, or T."""
    steps = len(indicators)
    ends = (indicators + 0.5).long() == 0
    ends[:1] = False
    where = torch.arange(steps, device=indicators.device)[:, None]
    return where.where(ends, steps).amin(0) if steps else ends.new_zeros(ends.shape[1]).long()


@layer(
    "CTCGreedyDecoder",
    bottoms=(2, 3),
    tops=(1, 3),
    message="ctc_decoder_param",
    fork="OpenVINO",
    differentiable=False,
)
class CTCGreedyDecoder(Layer):
    """The most probable class of each timestep, without blanks: a text from CTC's probabilities.

    Bottoms: probabilities (T, N, C) or (T, N, C, 1), the last class is the blank (or class
    `blank_index`, if that is not negative); indicators (T, N), a sequence ends before its first 0
    (the first row does not matter); optionally true labels (T, N), a label of -1 ends a sequence.
    Tops: labels (N, T, 1, 1), filled up with -1; with true labels, as last top, the fraction of
    sequences whose labels are all right, (1, 1, 1, 1); optionally, before it, minus the sum of the
    probabilities that were chosen, (N, 1, 1, 1). No gradient. Message: ctc_decoder_param;
    ctc_merge_repeated (default) makes equal classes next to each other one label. Graves et al.,
    2006.

    Errors: shapes that do not fit together.
    """

    ctc_merge_repeated: bool = option()
    blank_index: int = option()

    def top_shapes(self, x: Shape, cont: Shape, *truth: Shape) -> list[Shape]:
        if len(x) < 3 or prod(x[3:]) != 1:
            raise NetError(f"takes probabilities (T, N, C), got shape {shape_text(x)}.")
        if self.blank_index >= x[2]:
            raise NetError(f"blank_index {self.blank_index} is no class: there are {x[2]}.")
        steps, n = x[:2]
        for name, shape in (("indicators", cont), *(("labels", shape) for shape in truth)):
            if prod(shape) != steps * n:
                raise NetError(
                    f"{name} must have a value for each timestep and sequence, {steps} x {n}, got"
                    f" shape {shape_text(shape)}."
                )
        if self.top_count > 2 + len(truth):
            raise NetError(f"makes at most {2 + len(truth)} tops, got {self.top_count}.")
        shapes: list[Shape] = [(n, steps, 1, 1)]
        if self.top_count > 1 + len(truth):
            shapes.append((n, 1, 1, 1))
        if truth and self.top_count > 1:
            shapes.append((1, 1, 1, 1))
        return shapes

    def forward(self, x: Tensor, cont: Tensor, *truth: Tensor) -> list[Tensor]:
        steps, n, classes = x.shape[:3]
        probability, best = x.detach().reshape(steps, n, classes).max(2)
        lengths = lengths_of(cont.detach().reshape(steps, n))
        blank = classes - 1 if self.blank_index < 0 else self.blank_index
        labels = best_path(best.t(), lengths, blank, merge=self.ctc_merge_repeated)
        tops = [labels.to(x).view(n, steps, 1, 1)]
        if self.top_count > 1 + len(truth):
            inside = torch.arange(steps, device=x.device)[:, None] < lengths
            tops.append(-(probability * inside).sum(0).view(n, 1, 1, 1))
        if truth and self.top_count > 1:
            wanted = truth[0].detach().reshape(steps, n).t()
            open_ = (wanted >= 0).long().cumprod(1).bool()
            right = labels == packed((wanted + 0.5).long(), open_)
            tops.append(right.all(1).to(x).mean().nan_to_num().view(1, 1, 1, 1))
        return tops


@layer(
    "LabelsequenceAccuracy",
    bottoms=2,
    tops=1,
    fork="warpctc-caffe",
    fixed_bottoms=(1,),
    differentiable=False,
)
class LabelsequenceAccuracy(Layer):
    """The fraction of sequences whose labels are all right.

    Read are the best classes of the timesteps, without blanks, equal ones next to each other once.

    Bottoms: scores (N, T, C); true labels (N, L), blanks among them do not count. Top: a scalar in
    [0, 1]. No gradients. Message: labelsequence_accuracy_param (`blank_label`).

    Errors: not a row of labels for each sequence.
    """

    blank_label: int = option()

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        if len(x) < 3 or prod(x[3:]) != 1:
            raise NetError(f"takes scores (N, T, C), got shape {shape_text(x)}.")
        if len(label) < 1 or label[0] != x[0]:
            raise NetError(f"The batch size should be equal: {x[0]} sequences, labels of shape"
                           f" {shape_text(label)}.")  # fmt: skip
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        n, steps, classes = x.shape[:3]
        best = x.detach().reshape(n, steps, classes).argmax(2)
        read = best_path(best, best.new_full((n,), steps), self.blank_label)
        given = label.detach().reshape(n, prod(label.shape[1:])).long()
        wanted = packed(given, given != self.blank_label)
        width = max(read.shape[1], wanted.shape[1])
        read, wanted = (
            torch.nn.functional.pad(rows, (0, width - rows.shape[1]), value=-1)
            for rows in (read, wanted)
        )
        return (read == wanted).all(1).to(x).sum() / max(1, n)
