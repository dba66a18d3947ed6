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


def true_labels(given: Tensor, blank: int = -1) -> Tensor:
    """The labels (N, L) before the first negative one of each row, without blanks, as `packed`."""
    labels = (given + 0.5).floor().long()
    return packed(labels, (given >= 0).long().cumprod(1).bool() & (labels != blank))


def likeness(found: Tensor, wanted: Tensor) -> tuple[float, float]:
    """How near labels (N, T) come to the true ones (N, L), both filled up with -1.

    Returns:
        1 - the mean of the edit distances, each divided by the larger count of labels, and the
        fraction of rows that are equal; a row without labels on both sides adds nothing to either.
    """
    distance, right = 0.0, 0
    for ours, theirs in zip(found.tolist(), wanted.tolist(), strict=True):
        read, true = ([label for label in row if label >= 0] for row in (ours, theirs))
        if longest := max(len(read), len(true)):
            edits = edit_distance(read, true)
            distance += edits / longest
            right += not edits
    rows = max(len(found), 1)
    return 1 - distance / rows, right / rows


def edit_distance(a: list[int], b: list[int]) -> int:
    """How many items are to be put in, left out or replaced to make one list the other."""
    row = list(range(len(b) + 1))
    for k, item in enumerate(a, 1):
        before, row[0] = row[0], k
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (item != other))
    return row[-1]


def lengths_of(indicators: Tensor) -> Tensor:
    """Lengths (N,) of sequences from indicators (T, N): the first 0 after the first step, or T."""
    steps = len(indicators)
    ends = (indicators + 0.5).long() == 0
    ends[:1] = False
    where = torch.arange(steps, device=indicators.device)[:, None]
    return where.where(ends, steps).amin(0) if steps else ends.new_zeros(ends.shape[1]).long()


@layer(
    "CTCGreedyDecoder",
    bottoms=(1, 3),
    tops=(1, 3),
    message="ctc_decoder_param",
    fork="OpenVINO",
    differentiable=False,
)
class CTCGreedyDecoder(Layer):
    """The most probable class of each timestep, without blanks: a text from CTC's probabilities.

    Bottoms: probabilities (T, N, C) or (T, N, C, 1), the last class is the blank; indicators
    (T, N), a sequence ends before its first 0 (the first row does not matter); optionally true
    labels (T, N), a label of -1 ends a sequence. Tops: labels (N, T, 1, 1), filled up with -1; with
    true labels, as last top, the fraction of sequences whose labels are all right, (1, 1, 1, 1);
    optionally, before it, minus the sum of the probabilities that were chosen, (N, 1, 1, 1). No
    gradient. Message: ctc_decoder_param; ctc_merge_repeated (default) makes equal classes next to
    each other one label; blank_index, where it is given, is the blank (-1: the last class). Graves
    et al., 2006.

    caffe_ocr's form, in which class 0 is the blank and sequences have all the time: probabilities
    alone, the top is the labels; or probabilities and true labels (N, L), a negative one ends them
    and blanks do not count, the top (1, 2, 1, 1) holds 1 - the mean over sequences of the edit
    distance, divided by the larger count of labels, and the fraction that is all right.

    Errors: shapes that do not fit together.
    """

    ctc_merge_repeated: bool = option()
    blank_index: int | None = option(unset_is_none=True)

    def setup(self, x: Shape, *others: Shape) -> None:
        given = others[0] if len(others) == 1 else ()
        self.judges = self.top_count == 1 and given[:1] == x[1:2] and given[:2] != x[:2]
        self.has_all_time = self.judges or not others

    def top_shapes(self, x: Shape, *others: Shape) -> list[Shape]:
        if len(x) < 3 or prod(x[3:]) != 1:
            raise NetError(f"takes probabilities (T, N, C), got shape {shape_text(x)}.")
        if (self.blank_index or 0) >= x[2]:
            raise NetError(f"blank_index {self.blank_index} is no class: there are {x[2]}.")
        steps, n = x[:2]
        if self.judges:
            return [(1, 2, 1, 1)]
        for name, shape in zip(("indicators", "labels"), others, strict=False):
            if prod(shape) != steps * n:
                raise NetError(
                    f"{name} must have a value for each timestep and sequence, {steps} x {n}, got"
                    f" shape {shape_text(shape)}."
                )
        most = max(len(others), 1) + 1
        if self.top_count > most:
            raise NetError(f"makes at most {most} tops, got {self.top_count}.")
        shapes: list[Shape] = [(n, steps, 1, 1)]
        if self.top_count > max(len(others), 1):
            shapes.append((n, 1, 1, 1))
        if len(others) > 1 and self.top_count > 1:
            shapes.append((1, 1, 1, 1))
        return shapes

    def blank_of(self, classes: int) -> int:
        """The class of blanks."""
        if self.blank_index is None:
            return 0 if self.has_all_time else classes - 1
        return self.blank_index if self.blank_index >= 0 else classes - 1

    def forward(self, x: Tensor, *others: Tensor) -> list[Tensor]:
        steps, n, classes = x.shape[:3]
        probability, best = x.detach().reshape(steps, n, classes).max(2)
        lengths = torch.full((n,), steps, device=x.device)
        if not self.has_all_time:
            lengths = lengths_of(others[0].detach().reshape(steps, n))
        blank = self.blank_of(classes)
        labels = best_path(best.t(), lengths, blank, merge=self.ctc_merge_repeated)
        if self.judges:
            wanted = true_labels(others[0].detach().reshape(n, -1), blank)
            return [x.new_tensor(likeness(labels, wanted)).view(1, 2, 1, 1)]
        tops = [labels.to(x).view(n, steps, 1, 1)]
        if self.top_count > max(len(others), 1):
            inside = torch.arange(steps, device=x.device)[:, None] < lengths
            tops.append(-(probability * inside).sum(0).view(n, 1, 1, 1))
        if len(others) > 1 and self.top_count > 1:
            right = labels == true_labels(others[1].detach().reshape(steps, n).t())
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
