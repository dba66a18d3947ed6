"""The difference between the outputs of two programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moka.types import Array

TOLERANCE = 1e-4  # of an output's scale


@dataclass(frozen=True)
class Difference:
    """The largest difference between a net and an exported model, over all outputs and passes.

    Attributes:
        absolute: the largest difference of two numbers.
        relative: the largest difference as a part of its output's scale, its largest number.
        output: the output where it is.
    """

    absolute: float
    relative: float
    output: str

    @property
    def is_small(self) -> bool:
        """Whether the two count as equal; False for NaN."""
        return self.relative <= TOLERANCE

    def __str__(self) -> str:
        return f"{self.absolute:.3g} ({self.relative:.3g} of the scale) in {self.output}"


def difference_of(found: Array, expected: Array, output: str) -> Difference:
    """Compare two arrays. Equal infinities and two NaNs in one place do not differ; another shape,
    or a number against none, is a difference without bound."""
    if found.shape != expected.shape:
        return Difference(np.inf, np.inf, output)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(found.astype(np.float64) - expected))
    largest = float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max(initial=0.0))
    return Difference(largest, largest / scale if scale else largest, output)


def largest(differences: Sequence[Difference]) -> Difference:
    """The difference that is largest beside its output's scale."""
    return max(differences, key=lambda d: d.relative)
