from __future__ import annotations

import numpy as np
import pytest

from moka.export.difference import difference_of, largest

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("found", "expected", "absolute", "relative"),
    [
        ([1, 2], [1, 4], 2, 0.5),
        ([0, 0.5], [0, 0], 0.5, 0.5),
        ([NAN, INF, 1], [NAN, INF, 1], 0, 0),
        ([NAN, 1], [1, 1], INF, INF),
        ([-INF, 1], [INF, 1], INF, INF),
        ([1, 2, 3], [1, 2], INF, INF),
        ([], [], 0, 0),
    ],
)
def test_differences(
    found: list[float], expected: list[float], absolute: float, relative: float
) -> None:
    a, b = np.array(found, np.float32), np.array(expected, np.float32)
    difference = difference_of(a, b, "y")
    assert (difference.absolute, difference.relative) == (absolute, relative)
    assert largest([difference_of(b, b, "z"), difference]).relative == relative
