"""The names of classes, and the classes with the highest scores."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from moka.errors import DataError
from moka.files import read_text_file
from moka.schema import caffe_pb2, read_text
from moka.types import Array, PathLike

Prediction = list[tuple[str, float]]  # labels with their scores, highest first

TOP = 5
LABEL_MAPS = (".prototxt", ".pbtxt")


def read_labels(file: PathLike, classes: int | None) -> list[str]:
    """The names of classes, one on each line of a text file, or SSD's label map (a .prototxt).

    Args:
        classes: how many there are; None: as many as the file names.

    Raises:
        DataError: the file cannot be read, or names another number of classes.
        SchemaError: it is no label map.
    """
    if str(file).endswith(LABEL_MAPS):
        return _read_label_map(file, classes)
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


def _read_label_map(file: PathLike, classes: int | None) -> list[str]:
    items = read_text(file, caffe_pb2.LabelMap).item
    names = {item.label: item.display_name or item.name for item in items}
    count = max(names, default=-1) + 1
    if min(names, default=0) < 0 or (classes is not None and count > classes):
        raise DataError(
            f"the label map has labels from {min(names)} to {max(names)}, the net"
            f" {'labels from 0 on' if classes is None else f'{classes} classes'}.",
            file=file,
        )
    return [names.get(i, str(i)) for i in range(count if classes is None else classes)]


def short_label(line: str) -> str:
    """The first name on a line of labels, without WordNet's number: "tabby" of "n02123045 tabby,
    tabby cat"."""
    return re.sub(r"^n\d{8}\s+", "", line.strip()).split(",")[0]


def best_labels(scores: Array, labels: Sequence[str], count: int = TOP) -> Prediction:
    """The labels with the highest scores (classes,), highest first, each with its score."""
    return [(labels[i], float(scores[i])) for i in best_classes(scores, count)]


def best_classes(scores: Array, count: int = TOP) -> list[int]:
    """The numbers of the highest scores (classes,), highest first; of equal ones the first."""
    count = min(count, len(scores))
    if count < 1:
        return []
    falling = -scores
    last = np.partition(falling, count - 1)[count - 1]
    chosen = np.flatnonzero(~(falling > last))  # NaN is the last, and stays
    order = chosen[np.argsort(falling[chosen], kind="stable")][:count]
    return [int(i) for i in order]
