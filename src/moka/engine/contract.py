"""The protocol that every engine implements.

A new engine is one file that offers this, and one line in `moka.engine.choose`.
`tests/engine/test_contract.py` holds all engines to the same numbers.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from moka.engine.layerwise import Layerwise
from moka.net import Net


class Engine(Protocol):
    """Runs one net.

    Attributes:
        net: the net; its sources and its user-filled blobs are what a pass begins with.
    """

    net: Net

    @property
    def layerwise(self) -> Layerwise:
        """The engine for passes over single layers of this net. If it has callbacks or logs
        `debug_info`, all passes go layer by layer."""
        ...

    @property
    def in_view(self) -> frozenset[str]:
        """Names of the blobs whose data lies in `net.blobs` after a pass; the outputs and all
        blobs of the loss are among them."""
        ...

    def prepare(self) -> None:
        """Let the sources start to make batches ahead; otherwise the first pass does."""
        ...

    def forward(self) -> Tensor:
        """One pass without gradients; returns the loss, a scalar."""
        ...

    def forward_backward(self) -> Tensor:
        """One pass and its gradients, which are added to the parameters' `grad`; returns the
        loss, a scalar without a graph."""
        ...
