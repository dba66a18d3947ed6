"""A curve drawn with characters: braille patterns, each of 2 x 4 dots."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log10

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a character
_LOG_FROM = 30.0  # the ratio of greatest and least value from which on the scale is logarithmic


class Curve:
    """A series of any length in little memory: when it is full, each pair of neighbors becomes its
    mean.

    Args:
        capacity: the greatest number of points, even.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self.points: list[float] = []
        self._capacity = capacity
        self._each = 1  # how many values a point is the mean of
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        self._sum += value
        self._count += 1
        if self._count < self._each:
            return
        self.points.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.points) == self._capacity:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [(a + b) / 2 for a, b in pairs]
            self._each *= 2


def text_chart(values: Sequence[float], width: int, height: int) -> list[str]:
    """Lines of a chart: `height` rows of `width` characters.

    The greatest and the least value stand at the left; between values far apart the scale is
    logarithmic. A column of dots shows the mean of its values, or a point on the line between two
    values.

    Args:
        values: two or more finite numbers, evenly spaced.
    """
    labels = [f"{max(values):.3g}", f"{min(values):.3g}"]
    margin = max(8, *map(len, labels))  # the chart does not jump while labels change
    drawn = width - margin - 2
    curve = resampled(values, 2 * drawn)
    rows = _dots([_scaled(values, y) for y in curve], drawn, height)
    left = [labels[0], *[""] * (height - 2), labels[1]]
    return [
        f"{label:>{margin}} {'┤' if label else '│'}{row}"
        for label, row in zip(left, rows, strict=True)
    ]


def resampled(values: Sequence[float], count: int) -> list[float]:
    """Resample to `count` values: more become means of neighbors, fewer lie on straight lines."""
    n = len(values)
    if n >= count:
        edges = [k * n // count for k in range(count + 1)]
        return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    found = []
    for k in range(count):
        position = k * (n - 1) / (count - 1)
        i = min(int(position), n - 2)
        found.append(values[i] + (position - i) * (values[i + 1] - values[i]))
    return found


def _scaled(values: Sequence[float], value: float) -> float:
    """A value's place between the least, 0, and the greatest, 1."""
    low, high = min(values), max(values)
    if low == high:
        return 0.5
    if low > 0 and high >= _LOG_FROM * low:
        return log10(value / low) / log10(high / low)
    return (value - low) / (high - low)


def _dots(heights: Sequence[float], width: int, height: int) -> list[str]:
    """A line without gaps through heights between 0 and 1, one for each column of dots."""
    cells = [[0] * width for _ in range(height)]
    before = None
    for x, share in enumerate(heights):
        y = round((1 - share) * (4 * height - 1))
        low, high = (y, y) if before is None else sorted((y, before + (y > before) - (y < before)))
        for dot in range(low, high + 1):
            cells[dot // 4][x // 2] |= _DOTS[dot % 4][x % 2]
        before = y
    return ["".join(chr(0x2800 + cell) for cell in row) for row in cells]
