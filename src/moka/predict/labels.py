"""The names of classes, and the classes with the highest scores."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from moka.errors import DataError
from moka.files import read_text_file
from moka.types import Array, PathLike

Prediction = list[tuple[str, float]]  # labels with their scores, highest first

TOP = 5


def read_labels(file: PathLike, classes: int | None) -> list[str]:
    """The names of classes, one on each line of a text file.

    Args:
        classes: how many there are; None: as many as there are lines.

    Raises:
        DataError: the file cannot be read, or has another number of lines than there are classes.
    """
    try:
        text = read_text_file(file)
    except OSError as error:
        raise DataError(
            f"Unable to open labels file: {error.strerror}.",
            file=file,
            advice="It has the name of a class on each line.",
        ) from None
    printable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    lines = printable.splitlines()
    if classes is not None and len(lines) != classes:
        raise DataError(
            "Number of labels is different from the output layer dimension:"
            f" {len(lines)} lines, {classes} classes.",
            file=file,
        )
    return lines


def short_label(line: str) -> str:
    """The first name on a line of labels, without WordNet's number: "tabby" of "n02123045 tabby,
    tabby cat"."""
    return re.sub(r"^n\d{8}\s+", "", line.strip()).split(",")[0]


def best_labels(scores: Array, labels: Sequence[str], count: int = TOP) -> Prediction:
    """The labels with the highest scores (classes,), highest first, each with its score."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [(labels[i], float(scores[i])) for i in order]
