"""Resize images of any number of channels, by B-splines of order 0 to 5.

Each axis is resized on its own: a new value is a weighted sum of the few old ones around it. There
are two conventions for where new pixels lie between old ones: either the corners of both images
coincide (image libraries), or the centers of their corner pixels (`scipy.ndimage.zoom`).

Unser, Splines: a perfect fit for signal and image processing, 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moka.errors import UsageError
from moka.types import Array

ORDERS = range(6)


def resample(
    image: ArrayLike, size: Sequence[int], order: int = 1, *, centers: bool = False
) -> Array:
    """Resize an image (H, W, K) to (size[0], size[1], K) float64, without smoothing.

    Beyond its edges the image continues as if mirrored at the centers of its border pixels.

    Args:
        order: of the spline: 0 nearest pixel, 1 linear, 3 cubic, up to 5.
        centers: align the centers of the corner pixels, not the corners of the images.

    Raises:
        UsageError: an unknown order, an image that is empty or not (H, W, K), a size below 1.
    """
    values = np.asarray(image, np.float64)
    if values.ndim != 3 or not values.size:
        raise UsageError(f"an image is (height, width, channels), got shape {values.shape}.")
    if order not in ORDERS:
        raise UsageError(f"the order of interpolation is one of 0 to 5, got {order}.")
    if len(size) != 2 or min(size) < 1:
        raise UsageError(f"a new size is (height, width), each at least 1, got {tuple(size)}.")
    for axis, new in enumerate(size):
        at = positions(values.shape[axis], new, centers=centers)
        values = _interpolate(values, axis, at, order)
    return values


def positions(old: int, new: int, *, centers: bool) -> Array:
    """The centers of `new` pixels as indices among the `old` ones; aligned by corners, the first
    and the last may lie up to half a pixel outside."""
    if centers:
        step = (old - 1) / max(new - 1, 1)
        return np.minimum(np.arange(new) * step, old - 1)  # rounding must not leave the image
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def b_spline(x: ArrayLike, order: int) -> Array:
    """The B-spline of an order at `x`; it is zero from (order + 1) / 2 on, to either side of 0."""
    x = np.asarray(x, np.float64)
    if order == 0:
        return np.where((x >= -0.5) & (x < 0.5), 1.0, 0.0)
    total: Array = np.zeros(x.shape)
    for k in range(order + 2):
        total += (-1) ** k * comb(order + 1, k) * np.maximum(x + (order + 1) / 2 - k, 0) ** order
    total /= factorial(order)
    return total


def _interpolate(values: Array, axis: int, at: Array, order: int) -> Array:
    """The values at positions `at` along one axis."""
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
    """The matrix (old, old) that turns values into weights of the B-splines through them."""
    values = np.zeros((old, old))
    row = np.arange(old)
    for offset in range(-(order // 2), order // 2 + 1):
        np.add.at(values, (row, _mirrored(row + offset, old)), b_spline(offset, order))
    return np.linalg.inv(values).astype(np.float64, copy=False)


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Indices folded back at the first and the last pixel, so that they lie within an axis."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.minimum(index, period - index)
