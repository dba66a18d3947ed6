"""Class labels and indices. In blobs they are floats that hold whole numbers."""

from __future__ import annotations

from math import prod

from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.shapes import require_axes, shape_text, sizes_around
from moka.types import Shape


def indices(values: Tensor, size: int, *, of: str, advice: str) -> Tensor:
    """Convert values of any shape to int64 indices (truncated) and check that they are < size.

    Args:
        of: the things that are counted, for the error message.

    Raises:
        DataError: a value is outside [0, size).
    """
    index = values.long()
    _check_range(index, size, f"index {{}} is outside of the {size} {of}", advice)
    return index


def class_labels(
    labels: Tensor, classes: int, ignore_label: int | None
) -> tuple[Tensor, Tensor | None]:
    """Convert labels to int64 indices (truncated; 0 where ignored) and find which ones count.

    Args:
        labels: any shape.
        classes: the number of classes.
        ignore_label: a position with this label does not count; None: all positions count.

    Returns:
        indices of the same shape, in [0, classes), and a bool mask or None if all count.

    Raises:
        DataError: a label that is neither a class nor `ignore_label`.
    """
    index = labels.long()
    counted = None if ignore_label is None else index != ignore_label
    if counted is not None:
        index = index.where(counted, 0)
    _check_range(
        index,
        classes,
        f"label {{}} is outside of the {classes} classes",
        "Check the labels of the data, or num_output of the layer that makes the scores.",
    )
    return index, counted


def check_label_count(scores: Shape, labels: Shape, axis: int) -> None:
    """Raises NetError unless there is one label for each position of the scores."""
    outer, _, inner = sizes_around(scores, axis)
    wanted = outer * inner
    if prod(labels) != wanted:
        raise NetError(
            f"Number of labels must match number of predictions: scores of shape"
            f" {shape_text(scores)} with classes along axis {axis} need {wanted} labels, got shape"
            f" {shape_text(labels)}."
        )


def check_one_label_an_item(x: Shape, labels: Shape) -> None:
    """Raises NetError unless there is one label for each item of x (N, ...)."""
    require_axes(1, x)
    if prod(labels) != x[0]:
        raise NetError(
            f"The data and label should have the same first dimension: {x[0]} items, labels of"
            f" shape {shape_text(labels)}."
        )


def _check_range(index: Tensor, size: int, fault: str, advice: str) -> None:
    if not index.numel():
        return
    low, high = (int(v) for v in index.aminmax())
    if low < 0 or high >= size:
        found = fault.format(low if low < 0 else high)
        raise DataError(f"{found} (0 to {size - 1}).", advice=advice)
