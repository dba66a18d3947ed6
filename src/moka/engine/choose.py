"""Which engine runs a net: the one place that knows them all."""

from __future__ import annotations

import torch

from moka.engine.autograd import Autograd
from moka.engine.contract import Engine
from moka.net import Net


def training_engine(
    net: Net, *, keep_blobs: bool = False, half: torch.dtype | None = None
) -> Autograd:
    """The engine of a net that a solver trains; each of its passes can be run again.

    Args:
        keep_blobs: leave data and diff of every blob in view.
        half: the type of products in mixed precision; None: float32.
    """
    return Autograd(net, keep_blobs=keep_blobs, half=half, replayable=True)


def evaluation_engine(net: Net, *, keep_blobs: bool = False) -> Engine:
    """The engine of a net whose outputs are averaged over batches.

    Args:
        keep_blobs: leave the data of every blob in view.
    """
    return Autograd(net, keep_blobs=keep_blobs)
