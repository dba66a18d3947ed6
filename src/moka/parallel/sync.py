"""Batch normalization over the batches of all processes that train one model together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from moka.net import Net
from moka.parallel.team import Team


class SharedStatistics:
    """Lets the layers of a net that normalize by their batch take the batches of a whole team.

    N processes with one N-th of a batch then compute what one process computes with all of it.
    yjxiong's fork of Caffe has a layer type, SyncBN, which always does.

    Args:
        net: this process's copy of the model.
        team: the processes.
        everywhere: whether all such layers do; else those that always do.

    Attributes:
        team: as given.
    """

    def __init__(self, net: Net, team: Team, *, everywhere: bool) -> None:
        self.team = team
        self._is_alone = False
        for layer in net.layers if team.size > 1 else ():
            if everywhere or layer.always_gathers:
                layer.gather_statistics = self._gather

    def _gather(self, row: Tensor) -> Tensor:
        return row[None] if self._is_alone else self.team.gather_rows(row)

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Inside, passes that this process makes by itself take the statistics of its own batch."""
        self._is_alone = True
        try:
            yield
        finally:
            self._is_alone = False
