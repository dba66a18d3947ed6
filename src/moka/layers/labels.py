"""Class labels and indices. In blobs they are floats that hold whole numbers."""

from __future__ import annotations

from math import prod

from torch import Tensor

from moka.errors import NetError
from moka.layers.late_checks import in_range
from moka.layers.shapes import require_axes, shape_text, sizes_around
from moka.types import Shape


def indices(values: Tensor, size: int, *, of: str, advice: str) -> Tensor:
    """Convert values of any shape to int64 indices (truncated) and check that they are < size.

    Args:
        of: the things that are counted, for the error message.

    Raises:
        DataError: a value is outside [0, size); inside of `collecting_checks` later.
    """
    fault = f"index {{}} is outside of the {size} {of}"
    return in_range(values.long(), size, fault=fault, advice=advice)


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
        DataError: a label that is neither a class nor `ignore_label`; inside of
            `collecting_checks` later.
    """
    index = labels.long()
    counted = None if ignore_label is None else index != ignore_label
    if counted is not None:
        index = index.where(counted, 0)
    index = in_range(
        index,
        classes,
        fault=f"label {{}} is outside of the {classes} classes",
        advice="Check the labels of the data, or num_output of the layer that makes the scores.",
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
