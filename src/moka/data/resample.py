"""Images of any number of channels to another size, by splines of order 0 to 5.

Each axis is one product with a short matrix row for each new pixel: the weights of the few old
pixels around it. Two conventions say where a new pixel lies between the old ones: by pixel areas
(the corners of the images coincide; what image libraries do) or by pixel centres (the centres of
the corner pixels coincide; what `scipy.ndimage.zoom` does).

Unser, Splines: a perfect fit for signal and image processing, 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moka.types import Array

ORDERS = range(6)


def resample(
    image: ArrayLike, size: Sequence[int], order: int = 1, *, centres: bool = False
) -> Array:
    """An image (H, W, K) of another size, (size[0], size[1], K), without smoothing.

    Args:
        order: of the spline: 0 nearest pixel, 1 linear, 3 cubic, up to 5.
        centres: the centres of the corner pixels coincide, else the corners of the images.

    Raises:
        ValueError: no such order, an image that is empty or not (H, W, K), a size below 1.
    """
    values = np.asarray(image, np.float64)
    if values.ndim != 3 or not values.size:
        raise ValueError(f"an image is (height, width, channels), got shape {values.shape}.")
    if order not in ORDERS:
        raise ValueError(f"the order of interpolation is one of 0 to 5, got {order}.")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a new size is (height, width), each at least 1, got {tuple(size)}.")
    for axis, new in enumerate(size):
        old = values.shape[axis]
        at = positions(old, new, centres=centres)
        values = _along(values, axis, at, order)
    return values


def positions(old: int, new: int, *, centres: bool) -> Array:
    """Where the centres of `new` pixels lie, in indices of the `old` ones, within 0 to old - 1."""
    if centres:
        return np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
    return np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)


def b_spline(x: ArrayLike, order: int) -> Array:
    """The B-spline of an order at x: (order + 1) / 2 to either side of 0 it becomes zero."""
    x = np.asarray(x, np.float64)
    if order == 0:
        return np.where((x >= -0.5) & (x < 0.5), 1.0, 0.0)
    total: Array = np.zeros(x.shape)
    for k in range(order + 2):
        total += (-1) ** k * comb(order + 1, k) * np.maximum(x + (order + 1) / 2 - k, 0) ** order
    total /= factorial(order)
    return total


def _along(values: Array, axis: int, at: Array, order: int) -> Array:
    """The values at some positions along one axis; beyond the ends they are mirrored."""
    old = values.shape[axis]
    if order > 1:
        values = np.moveaxis(np.tensordot(_coefficients(old, order), values, (1, axis)), 0, axis)
    first = np.floor(at - (order - 1) / 2).astype(np.int64)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    total: Array = np.zeros(1)
    for tap in range(order + 1):
        index = first + tap
        weight = b_spline(at - index, order)
        total = total + weight.reshape(shape) * values.take(_mirrored(index, old), axis)
    return total


def _coefficients(old: int, order: int) -> Array:
    """The matrix (old, old) from values to the weights of the B-splines that pass through them."""
    values = np.zeros((old, old))
    row = np.arange(old)
    for offset in range(-(order // 2), order // 2 + 1):
        np.add.at(values, (row, _mirrored(row + offset, old)), b_spline(offset, order))
    return np.linalg.inv(values).astype(np.float64, copy=False)


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Indices beyond the ends of an axis, folded back about its first and its last pixel."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.minimum(index, period - index)
