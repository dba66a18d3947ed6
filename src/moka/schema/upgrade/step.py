"""What an upgrade step is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

M = TypeVar("M")


def _none(message: object) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Step(Generic[M]):
    """One old form of a message, and the way out of it.

    Attributes:
        attempt, success: what Caffe's log says before (the file's name follows) and after.
        needed: whether a message is in the old form.
        upgrade: a copy in the newer form.
        problems: a sentence for each thing that has no place in the newer form and is dropped.
    """

    attempt: str
    success: str
    needed: Callable[[M], bool]
    upgrade: Callable[[M], M]
    problems: Callable[[M], Sequence[str]] = _none
