"""Checks of data that lies on a device: noted during a pass, raised once after it.

A check has to read the data, and `in_range` then raises at once. On a GPU each read makes the host
wait until everything before it has been computed, and a recorded pass cannot read. So inside
`collecting_checks` it only notes the smallest and the largest number, which stay on the device, and
brings the numbers into the range, so that nothing reads beyond an array until the check is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from moka.errors import DataError, MokaError

Locate = Callable[[MokaError], MokaError]


@dataclass
class RangeCheck:
    """Indices that must be in [0, size).

    Attributes:
        extent: the smallest and the largest index, (2,) int64, where the indices are.
        size: one more than the largest index that is allowed.
        fault: what is wrong otherwise, with `{}` for the index.
        advice: what to do then.
        locate: adds the names of file and layer to an error.
    """

    extent: Tensor
    size: int
    fault: str
    advice: str
    locate: Locate = lambda error: error

    def error(self, low: float, high: float) -> MokaError | None:
        """The error for this smallest and largest index; None if both are allowed."""
        if low >= 0 and high < self.size:
            return None
        found = self.fault.format(int(low if low < 0 else high))
        return self.locate(DataError(f"{found} (0 to {self.size - 1}).", advice=self.advice))


@dataclass
class LateChecks:
    """The checks that a pass has noted.

    Attributes:
        checks: in the order of the layers.
    """

    checks: list[RangeCheck] = field(default_factory=list)
    _located: int = 0

    def locate(self, by: Locate) -> None:
        """Say where the checks belong that have been noted since the last call."""
        for check in self.checks[self._located :]:
            check.locate = by
        self._located = len(self.checks)

    def extents(self) -> list[Tensor]:
        """Smallest and largest index of each check, scalars on the device, as `first_error` takes
        their values."""
        return [value for check in self.checks for value in check.extent.unbind()]

    def are_broken(self, like: Tensor) -> Tensor:
        """1.0 if any check fails, else 0.0, on the device.

        Args:
            like: a tensor there, whose type the result has.
        """
        broken = like.new_zeros((), dtype=torch.bool)
        for check in self.checks:
            low, high = check.extent.unbind()
            broken = broken | (low < 0) | (high >= check.size)
        return broken.to(like.dtype)

    def first_error(self, extents: Sequence[float]) -> MokaError | None:
        """The first check that fails.

        Args:
            extents: the values of `extents()`.
        """
        pairs = zip(extents[::2], extents[1::2], strict=True)
        errors = (check.error(*pair) for check, pair in zip(self.checks, pairs, strict=True))
        return next((error for error in errors if error), None)

    def raise_first(self) -> None:
        """Read all checks at once. Raises the error of the first that fails."""
        if self.checks:
            error = self.first_error(torch.stack(self.extents()).tolist())
            if error is not None:
                raise error


_collected: ContextVar[LateChecks | None] = ContextVar("late checks", default=None)


@contextmanager
def collecting_checks() -> Iterator[LateChecks]:
    """Inside this context `in_range` raises nothing; what it yields knows the checks."""
    checks = LateChecks()
    token = _collected.set(checks)
    try:
        yield checks
    finally:
        _collected.reset(token)


def collected_checks() -> LateChecks | None:
    """The checks noted so far; None outside of `collecting_checks`, and while PyTorch compiles."""
    return None if torch.compiler.is_compiling() else _collected.get()


def in_range(index: Tensor, size: int, *, fault: str, advice: str) -> Tensor:
    """Check that indices lie in [0, size); returns them, safe to index with.

    Args:
        index: int64, any shape.
        fault: the beginning of the error's sentence, with `{}` for the index.
        advice: what to do then.

    Raises:
        DataError: an index is outside, unless inside of `collecting_checks`.
    """
    if not index.numel():
        return index
    extent = index.aminmax()
    collected = collected_checks()
    if collected is None:
        low, high = extent[0].item(), extent[1].item()
        if low < 0 or high >= size:
            error = RangeCheck(torch.stack(extent), size, fault, advice).error(low, high)
            assert error is not None
            raise error
        return index
    collected.checks.append(RangeCheck(torch.stack(extent), size, fault, advice))
    return index.clamp(0, max(0, size - 1))
