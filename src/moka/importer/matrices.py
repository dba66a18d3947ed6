"""Axes of images multiplied by constant matrices: any resizing, padding, reversing or picking."""

from __future__ import annotations

import numpy as np

from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.conv import Sides, WindowOptions, convolve
from moka.importer.linear import times_matrix
from moka.types import Array

ONES = WindowOptions((1, 1), (1, 1), (1, 1))
NONE = Sides((0, 0), (0, 0))


def products(site: NodeSite, x: MadeBlob, rows: Array, columns: Array) -> MadeBlob:
    """(N, C, H, W) with its rows multiplied by (H', H) and its columns by (W', W): columns by an
    InnerProduct, rows as the channels of a Convolution."""
    batch, channels, height, width = x.shape
    if not _is_identity(columns):
        x = times_matrix(site, x, columns, learned=False, part="columns")
        width = len(columns)
    if not _is_identity(rows):
        x = site.reshape(x, (batch * channels, height, 1, width), part="rows_as_channels")
        x = _mixed(site, x, rows, part="rows")
        x = site.reshape(x, (batch, channels, len(rows), width))
    return x


def along(site: NodeSite, x: MadeBlob, axis: int, matrix: Array) -> MadeBlob:
    """(N, C, H, W) with one axis but the first multiplied by (new, old)."""
    if axis == 1:
        return _mixed(site, x, matrix, part="channels")
    keep = np.eye(x.shape[5 - axis], dtype=np.float32)
    return products(site, x, *((matrix, keep) if axis == 2 else (keep, matrix)))


def _mixed(site: NodeSite, x: MadeBlob, matrix: Array, part: str) -> MadeBlob:
    return convolve(
        site, x, matrix[:, :, None, None], padding=NONE, window=ONES, learned=False, part=part
    )


def _is_identity(matrix: Array) -> bool:
    return matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix)))
