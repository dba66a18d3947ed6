"""True boxes as SSD's data layers give them, and as layers use them."""

from __future__ import annotations

import logging
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.shapes import shape_text
from moka.types import Shape

log = logging.getLogger("moka")

ROW = 8  # image, label, instance, x1, y1, x2, y2, difficult


class Truth(NamedTuple):
    """True boxes of a batch.

    Attributes:
        image, label: (G,), int64.
        boxes: (G, 4) of corners x1, y1, x2, y2 as fractions.
        difficult: (G,), bool.
        state: (G,), int64: what a label of tl_ssd says beside the class, else 0.
    """

    image: Tensor
    label: Tensor
    boxes: Tensor
    difficult: Tensor
    state: Tensor

    def of(self, chosen: Tensor) -> Truth:
        """The true boxes that a mask or indices choose."""
        return Truth(*(values[chosen] for values in self))


def check_truth_blob(truth: Shape) -> None:
    """Raises NetError unless a blob is 1 x 1 x G x 8."""
    if len(truth) != 4 or truth[:2] != (1, 1) or truth[3] != ROW:
        raise NetError(f"true boxes are a blob 1 1 G 8, got shape {shape_text(truth)}.")


def read_truth(blob: Tensor, classes: int, background: int, states: int = 0) -> Truth:
    """The true boxes of a blob (1, 1, G, 8); rows of image -1 are none.

    With two classes every label from 2 on counts as 1, and a warning says so.

    Args:
        states: if not 0, labels are tl_ssd's numbers: their fifth digit is one of so many states,
            and all boxes are of class 1.

    Raises:
        DataError: a label that is no class, or the background; a state that is none.
    """
    rows = blob.detach().reshape(-1, ROW)
    rows = rows[rows[:, 0] >= 0]
    label = rows[:, 1].long()
    state = torch.zeros_like(label)
    if states:
        state, label = _fifth_digits(label, states), torch.ones_like(label)
    if classes == 2 and (label > 1).any():
        _tell_one_kind()
        label = label.clamp(max=1)
    wrong = (label == background) | (label < 0) | (label >= classes)
    if wrong.any():
        found = int(label[wrong][0])
        kind = "the background" if found == background else f"outside of the {classes} classes"
        raise DataError(f"a true box has label {found}, which is {kind}.")
    return Truth(rows[:, 0].long(), label, rows[:, 3:7], rows[:, 7] != 0, state)


def _fifth_digits(label: Tensor, states: int) -> Tensor:
    """The fifth digit (G,) of each label, counted from the left.

    Raises:
        DataError: a label without one, or a digit that is no state.
    """
    if (label < 10**4).any():
        found = int(label[label < 10**4][0])
        raise DataError(f"a label's fifth digit is its state; a true box has label {found}.")
    while (label >= 10**5).any():
        label = torch.where(label >= 10**5, label // 10, label)
    digit = label % 10
    if (digit >= states).any():
        found = int(digit[digit >= states][0])
        raise DataError(f"a true box has state {found}, which is outside of the {states} states.")
    return digit


@cache
def _tell_one_kind() -> None:
    """Once in a process: what is meant in RefineDet may be a forgotten background elsewhere."""
    log.warning(
        "True boxes have labels above 1. With num_classes: 2, background and objects, each of them"
        " counts as 1, as in RefineDet. Two classes of objects need num_classes: 3."
    )
