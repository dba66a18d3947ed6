"""Random scales at which images with objects are seen, as MS-CNN and Cascade R-CNN train."""

from __future__ import annotations

import numpy as np

from moka.data.field_labels import nearest
from moka.types import Floats

_AN_OCTAVE = 2  # of MS-CNN's scales
_ASPECT_STEP = 0.05  # of its aspect ratios
_BEYOND = (0.8, 1.2)  # parts of its least and greatest scale that a side of an object may reach


def octaves(
    chosen: Floats | None,
    rng: np.random.Generator,
    *,
    scales: tuple[int, int] | None,
    aspects: tuple[float, float] | None,
) -> tuple[float, float]:
    """MS-CNN's factors: the object's size becomes another one of the steps from the least scale to
    the greatest, two an octave."""
    if scales is None or chosen is None or rng.random() >= 0.5:
        return 1.0, 1.0
    least, most = scales
    width, height = float(chosen[5] - chosen[3]), float(chosen[6] - chosen[4])
    steps = np.arange(nearest(_AN_OCTAVE * np.log2(most / least) + 1)) / _AN_OCTAVE
    fields, area = (least * 2**steps) ** 2, width * height
    match = steps[np.argmax(np.minimum(area, fields) / np.maximum(area, fields))]
    factor = float(2 ** (rng.choice(steps) - match))
    high, wide = factor, factor
    if aspects is not None and rng.random() < 0.5:
        count = max(1, nearest((aspects[1] - aspects[0]) / _ASPECT_STEP))
        change = (int(rng.integers(count)) * _ASPECT_STEP + aspects[0]) / (width / height)
        low, top = _BEYOND[0] * least, _BEYOND[1] * most
        if rng.random() < 0.5:
            wide *= change if low <= width * wide * change <= top else 1
        else:
            high /= change if low <= height * high / change <= top else 1
    return high, wide


def powers(
    chosen: Floats | None,
    rng: np.random.Generator,
    *,
    probability: float,
    ratios: tuple[float, float] | None,
    scales: tuple[float, float] | None,
    aspects: tuple[float, float] | None,
) -> tuple[float, float]:
    """Cascade R-CNN's factors, uniform on a scale of logarithms."""
    if not (ratios or scales) or rng.random() >= probability:
        return 1.0, 1.0
    if ratios is None:
        assert scales is not None
        if chosen is None:
            ratios = (2.0, 2.0)  # as the fork
        else:
            width, height = chosen[5] - chosen[3] + 1, chosen[6] - chosen[4] + 1
            size = float(np.sqrt(width * height))
            ratios = (scales[0] / size, scales[1] / size)
    factor = float(2 ** rng.uniform(*np.log2(ratios)))
    aspect = float(2 ** rng.uniform(*np.log2(aspects))) if aspects else 1.0
    return factor / aspect**0.5, factor * aspect**0.5
