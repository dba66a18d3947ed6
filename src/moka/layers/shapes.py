"""Helpers for shapes: axes by number, sizes around an axis, checks, and texts for messages."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from torch import Tensor

from moka.errors import NetError
from moka.types import Shape


def shape_text(shape: Sequence[int]) -> str:
    """(64, 1, 28, 28) -> "64 1 28 28 (50176)", as Caffe writes shapes."""
    return "".join(f"{n} " for n in shape) + f"({prod(shape)})"


def by(sizes: Sequence[int]) -> str:
    """(7, 5) -> "7 x 5"."""
    return " x ".join(map(str, sizes))


def times(count: int, factor: float) -> int:
    """The count times a field of type float, rounded down: in single precision, as in C++, where 10
    times 0.7 is 7. In double precision it would be 6, for the nearest float is below 0.7."""
    return int(np.float32(count) * np.float32(factor))


def canonical_axis(axis: int, shape: Shape, *, extra: int = 0) -> int:
    """A possibly negative axis as an index; `extra` allows axes past the last one.

    Raises:
        NetError: there is no such axis.
    """
    axes = len(shape) + extra
    if not -axes <= axis < axes:
        raise NetError(f"axis {axis} does not exist in a blob of shape {shape_text(shape)}.")
    return axis % axes if axes else 0


def sizes_around(x: Shape, axis: int) -> tuple[int, int, int]:
    """(outer, size, inner): the count of positions before an axis, its size, the count after it.

    Raises:
        NetError: there is no such axis.
    """
    k = canonical_axis(axis, x)
    return prod(x[:k]), x[k], prod(x[k + 1 :])


def as_rows(x: Tensor) -> Tensor:
    """x (N, ...) as rows, (N, product of the other axes)."""
    return x.reshape(x.shape[0], prod(x.shape[1:]))


def require_axes(least: int, *shapes: Shape) -> None:
    """Raises NetError if a blob has fewer axes than `least`."""
    for shape in shapes:
        if len(shape) < least:
            raise NetError(
                f"takes bottoms of at least {least} ax{'i' if least == 1 else 'e'}s, got shape"
                f" {shape}."
            )


def refuse_empty_axes(x: Shape, *, first: int) -> None:
    """Raises NetError if an axis from `first` on has size 0: only batches may be empty."""
    if 0 in x[first:]:
        raise NetError(f"only the batch may be empty, got a bottom of shape {x}.")
