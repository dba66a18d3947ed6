"""How well a classifier does on images whose classes are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moka.errors import UsageError
from moka.predict.labels import short_label
from moka.types import Array

_WORDNET = re.compile(r"^n\d{8}")


@dataclass(frozen=True)
class Confusion:
    """What a classifier took for what.

    Attributes:
        classes: the numbers of the classes that occur.
        matrix: (classes, classes), how many images of a true class (row) were taken for each.
        worst: the images that were wrong, by number, the surest mistake first.
    """

    classes: list[int]
    matrix: Array
    worst: list[int]

    @property
    def counts(self) -> list[int]:
        """Images of each class."""
        counts: list[int] = self.matrix.sum(1).tolist()
        return counts

    @property
    def right(self) -> list[int]:
        """Images of each class that were recognized."""
        right: list[int] = self.matrix.diagonal().tolist()
        return right

    @property
    def accuracy(self) -> float:
        """The share of all images that were recognized."""
        return float(self.matrix.trace() / self.matrix.sum())


def confusion(
    truths: Sequence[int], predicted: Sequence[int], scores: Sequence[float]
) -> Confusion:
    """Compare classes that are known with those that were predicted.

    Args:
        truths, predicted: a class for each image.
        scores: of the predicted classes.

    Raises:
        UsageError: no image, or lists of other lengths.
    """
    if not truths or not len(truths) == len(predicted) == len(scores):
        raise UsageError(
            f"each image has a class, a prediction and a score; got {len(truths)},"
            f" {len(predicted)} and {len(scores)}."
        )
    classes = sorted({*truths, *predicted})
    place = {number: i for i, number in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for truth, found in zip(truths, predicted, strict=True):
        matrix[place[truth], place[found]] += 1
    wrong = [i for i, (a, b) in enumerate(zip(truths, predicted, strict=True)) if a != b]
    return Confusion(classes, matrix, sorted(wrong, key=lambda i: -scores[i]))


def class_named(name: str, labels: Sequence[str], classes: int) -> int | None:
    """The number of the class that a folder's name means: a line of labels or its first name, in
    any case and with blanks or underscores; WordNet's number (n02123045); or a number. None: no
    class is called so."""
    wanted = _plain(name)
    if not wanted:
        return None
    for match in (_plain, lambda line: _plain(short_label(line)), _wordnet):
        for i, label in enumerate(labels):
            if match(label) == wanted:
                return i
    return int(wanted) if wanted.isdecimal() and int(wanted) < classes else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def _wordnet(line: str) -> str:
    found = _WORDNET.match(line)
    return found[0] if found else ""
