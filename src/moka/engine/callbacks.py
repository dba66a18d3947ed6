"""Functions of a user that are called for each layer of a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Callback = Callable[[int], object]


@dataclass(frozen=True)
class Callbacks:
    """Functions that are called with the index of each layer, before and after it runs."""

    before_forward: list[Callback] = field(default_factory=list)
    after_forward: list[Callback] = field(default_factory=list)
    before_backward: list[Callback] = field(default_factory=list)
    after_backward: list[Callback] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(vars(self).values())
