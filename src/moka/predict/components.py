"""Points in a plane that show how features differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from moka.errors import UsageError
from moka.types import Array


def principal_components(features: ArrayLike, count: int = 2) -> Array:
    """The coordinates (N, count) of points along the axes in which they differ most.

    Args:
        features: (N, ...), a row for each point.

    Returns:
        float32; axes beyond the number of features hold zeros. The largest coordinate of an axis
        by size is positive, so that the same features give the same picture.

    Raises:
        UsageError: fewer than two points.
    """
    rows = np.asarray(features, np.float64)
    if rows.ndim < 1 or len(rows) < 2:
        raise UsageError(f"principal components need at least two points, got {len(rows)}.")
    rows = rows.reshape(len(rows), -1)
    rows = rows - rows.mean(0)
    left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    places = np.zeros((len(rows), count))
    found = min(count, len(sizes))
    places[:, :found] = left[:, :found] * sizes[:found]
    signs = np.sign(places[np.abs(places).argmax(0), range(count)])
    return (places * np.where(signs == 0, 1, signs)).astype(np.float32)
