"""What may compute a net's outputs in place of its layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from moka.net.net import Net


class Runner(Protocol):
    """Computes a net's blobs; it refers to the net weakly."""

    def __call__(self, inputs: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
        """The wanted blobs by name."""
        ...

    def again(self, arrays: Sequence[Tensor]) -> dict[str, Tensor] | None:
        """The net's outputs, if a pass on these inputs, in their order, can go as the last ones
        went; None: nobody knows yet."""
        ...

    def for_copy(self, net: Net) -> Runner:
        """One like this for a copy of the net."""
        ...
