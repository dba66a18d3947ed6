"""Class labels as they come in blobs: floats that hold whole numbers."""

from __future__ import annotations

from torch import Tensor

from moka.errors import DataError


def class_labels(
    labels: Tensor, classes: int, ignore_label: int | None
) -> tuple[Tensor, Tensor | None]:
    """Labels as int64 indices (truncated; 0 where ignored) and where they count.

    Args:
        labels: any shape.
        classes: how many there are.
        ignore_label: positions with this label do not count; None: all count.

    Returns:
        indices of the same shape, in [0, classes), and a bool mask or None if all count.

    Raises:
        DataError: a label that is neither a class nor `ignore_label`.
    """
    index = labels.long()
    counted = None if ignore_label is None else index != ignore_label
    if counted is not None:
        index = index.where(counted, 0)
    low, high = (int(v) for v in index.aminmax()) if index.numel() else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(
            f"label {low if low < 0 else high} is outside of the {classes} classes"
            f" (0 to {classes - 1}).",
            advice="Check the labels of the data, or num_output of the layer that makes the"
            " scores.",
        )
    return index, counted
