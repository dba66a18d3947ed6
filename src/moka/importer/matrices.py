"""Axes of images multiplied by constant matrices: any resizing, padding, reversing or picking."""

from __future__ import annotations

import numpy as np

from moka.importer.builder import Site, Value
from moka.importer.conv import Sides, WindowOptions, convolve
from moka.importer.linear import inner_product
from moka.types import Array

ONES = WindowOptions((1, 1), (1, 1), (1, 1))
NONE = Sides((0, 0), (0, 0))


def products(site: Site, x: Value, rows: Array, columns: Array) -> Value:
    """(N, C, H, W) with its rows multiplied by (H', H) and its columns by (W', W): columns by an
    InnerProduct, rows as the channels of a Convolution."""
    batch, channels, height, width = x.shape
    if not _is_identity(columns):
        x = inner_product(site, x, columns, learned=False, part="columns")
        width = len(columns)
    if not _is_identity(rows):
        x = site.reshape(x, (batch * channels, height, 1, width), part="rows_as_channels")
        x = _mixed(site, x, rows, part="rows")
        x = site.reshape(x, (batch, channels, len(rows), width))
    return x


def along(site: Site, x: Value, axis: int, matrix: Array) -> Value:
    """(N, C, H, W) with one axis but the first multiplied by (new, old)."""
    if axis == 1:
        return _mixed(site, x, matrix, part="channels")
    keep = np.eye(x.shape[5 - axis], dtype=np.float32)
    return products(site, x, *((matrix, keep) if axis == 2 else (keep, matrix)))


def _mixed(site: Site, x: Value, matrix: Array, part: str) -> Value:
    return convolve(
        site, x, matrix[:, :, None, None], padding=NONE, window=ONES, learned=False, part=part
    )


def _is_identity(matrix: Array) -> bool:
    return matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix)))
