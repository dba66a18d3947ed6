"""When the loss has reached a plateau: the state of lr_policy "plateau".

Other policies tell the rate from the iteration alone (`moka.solver.policy`). This one has to
remember the losses so far, which snapshots keep. SSD's Caffe brought it in.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from moka.schema.caffe_pb2 import PlateauState, SolverParameter


class Plateau:
    """Counts how often the rate drops: each time when the smoothed loss has reached no new minimum
    for `patience[drops]` iterations, or since the last drop; after the last entry never again.

    Args:
        patience: iterations to wait for the first drop, the second, ...; none: it never drops.
        begin: iterations before this one (a warm-up) are not looked at.

    Attributes:
        drops: how many there have been.
        minimum_loss: smallest smoothed loss so far.
        last_event: iteration of the last minimum or drop.
    """

    def __init__(self, patience: Sequence[int], begin: int = 0) -> None:
        self.patience = tuple(patience)
        self.begin = begin
        self.drops = 0
        self.minimum_loss = inf
        self.last_event = begin

    @classmethod
    def of(cls, config: SolverParameter) -> Plateau:
        """What a solver's message asks for; with another lr_policy it never drops."""
        patience = config.plateau_winsize if config.lr_policy == "plateau" else ()
        return cls(patience, max(config.warmup_iter, config.rampup_interval))

    def see(self, smoothed_loss: float, iteration: int) -> bool:
        """Take note of an iteration's loss; returns whether the rate drops with this iteration."""
        if iteration < self.begin:
            return False
        if smoothed_loss < self.minimum_loss:
            self.minimum_loss, self.last_event = smoothed_loss, iteration
        if self.drops == len(self.patience):
            return False
        if iteration - self.last_event < self.patience[self.drops]:
            return False
        self.drops, self.last_event = self.drops + 1, iteration
        return True

    def state(self) -> PlateauState:
        """What a snapshot keeps beside the number of drops."""
        return PlateauState(minimum_loss=self.minimum_loss, last_event=self.last_event)

    def load_state(self, drops: int, state: PlateauState | None, iteration: int) -> None:
        """Go on from a snapshot of `iteration`; without a state the waiting begins anew."""
        self.drops = min(drops, len(self.patience))
        self.minimum_loss = state.minimum_loss if state else inf
        self.last_event = state.last_event if state else max(iteration, self.begin)
