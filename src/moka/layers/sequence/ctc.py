"""Connectionist temporal classification: a loss for labels whose places in time are not known."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.gradient import with_scaled_gradient
from moka.layers.labels import class_labels
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.sequence.labels import lengths_of
from moka.layers.shapes import shape_text
from moka.types import Shape


class Targets(NamedTuple):
    """True labels of a batch of sequences.

    Attributes:
        labels: those of all sequences, one after another, int64.
        counts: how many each sequence has (N,).
        lengths: timesteps (N,) of each sequence.
    """

    labels: Tensor
    counts: Tensor
    lengths: Tensor


def ctc(scores: Tensor, targets: Targets, blank: int) -> Tensor:
    """-log of the probability of each sequence's labels (N,); 0 where its time is too short.

    Each path through the classes whose labels these are, without blanks and with equal neighbors
    once, adds its probability.

    Args:
        scores: (T, N, C), before the softmax.
    """
    logarithms = torch.log_softmax(scores, 2)
    labels, counts, lengths = targets
    return F.ctc_loss(
        logarithms, labels, lengths, counts, blank, reduction="none", zero_infinity=True
    )


@layer(
    "CtcLoss",
    bottoms=(2, 4),
    tops=1,
    aliases=("CTCLoss", "WarpCTCLoss"),
    fork="warpctc-caffe",
    is_loss=True,
    fixed_bottoms=(1, 2, 3),
)
class CtcLoss(Layer):
    """The loss of CTC: -log of the probability that the timesteps spell the labels, divided by N.

    The probability is a sum over all ways to write the labels into the timesteps, with blanks
    between them and labels repeated; classes have a softmax. Labels that do not fit into the time
    of their sequence add 0 and take no gradient.

    Bottoms: scores (T, N, C), before the softmax; then labels (N, L), blanks among them do not
    count. Or, as in caffe's CTC branch (CTCLoss, WarpCTCLoss): indicators (T, N), a sequence ends
    before its first 0 after the first step, and labels (L, N), the first negative one ends a
    sequence, and one without labels adds 0 and takes no gradient; or lengths (N), counts of labels
    (N), and labels (L, N). Top: a scalar. Only the scores take a gradient. Message: ctc_loss_param.
    blank_label: the class of blanks; if it is not given, 0 with two bottoms and the last class with
    more; the branch calls it blank_index, -1 for the last class. alphabet_size and time_step, if
    given, must be C and T. Graves et al., 2006.

    Errors: shapes that do not fit together; a label outside [0, C).

    As in the forks the gradient is that of the sum over the sequences, not divided by N.
    """

    alphabet_size: int = option()
    time_step: int = option()
    blank_label: int | None = option(unset_is_none=True)
    blank_index: int | None = option(unset_is_none=True)

    def top_shapes(self, x: Shape, *others: Shape) -> list[Shape]:
        if len(x) < 3 or prod(x[3:]) != 1:
            raise NetError(f"takes scores (T, N, C), got shape {shape_text(x)}.")
        steps, n, classes = x[:3]
        for name, given, found in (
            ("alphabet_size", self.alphabet_size, classes),
            ("time_step", self.time_step, steps),
        ):
            if given not in (0, found):
                raise NetError(f"{name} is {given}, but the scores have shape {shape_text(x)}.")
        if not 0 <= self.blank_of(classes, len(others)) < classes:
            raise NetError(
                f"blank_label must be a class, 0 to {classes - 1}, got"
                f" {self.blank_of(classes, len(others))}."
            )
        labels = others[-1]
        batch = labels[:1] if len(others) == 1 else labels[1:2]
        if batch != (n,) or len(labels) < 2 or (len(others) > 1 and prod(labels[2:]) != 1):
            axes = "N L" if len(others) == 1 else "L N"
            raise NetError(
                f"labels must have shape {axes} with N = {n}, got shape {shape_text(labels)}."
            )
        wanted = [steps * n] if len(others) == 2 else [n, n]
        for shape, count in zip(others[:-1], wanted, strict=False):
            if prod(shape) != count:
                raise NetError(
                    f"lengths and indicators must have {count} values, got shape"
                    f" {shape_text(shape)}."
                )
        return [()]

    def blank_of(self, classes: int, others: int) -> int:
        """The class of blanks."""
        if self.blank_label is not None:
            return self.blank_label
        if self.blank_index is not None:
            return self.blank_index if self.blank_index >= 0 else classes - 1
        return 0 if others == 1 else classes - 1

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        steps, n, classes = x.shape[:3]
        if not n or not steps:
            return x.sum() * 0
        blank = self.blank_of(classes, len(others))
        targets = self._targets(steps, n, classes, blank, *(b.detach() for b in others))
        total = ctc(x.reshape(steps, n, classes), targets, blank).sum()
        return with_scaled_gradient(total / n, n)

    def _targets(self, steps: int, n: int, classes: int, blank: int, *others: Tensor) -> Targets:
        given = others[-1]
        lengths = torch.full((n,), steps, device=given.device)
        if len(others) == 1:
            rows, _ = class_labels(given.flatten(1), classes, None)
            kept = rows != blank
            return Targets(rows[kept], kept.sum(1), lengths)
        rows = given.reshape(given.shape[0], n).t()
        if len(others) == 2:
            kept = (rows >= 0).long().cumprod(1).bool()
            lengths = lengths_of(others[0].reshape(steps, n)).where(kept.any(1), 0)
        else:
            lengths, counts = (b.reshape(n).long() for b in others[:2])
            wrong = lengths[(lengths < 0) | (lengths > steps)]
            if len(wrong):
                raise DataError(f"a sequence has {int(wrong[0])} timesteps of {steps}.")
            kept = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]
        labels, _ = class_labels((rows[kept] + 0.5).floor(), classes, None)
        return Targets(labels, kept.sum(1), lengths)
