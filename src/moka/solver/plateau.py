"""When the loss has reached a plateau: the state of lr_policy "plateau".

Other policies compute the rate from the iteration alone (`moka.solver.policy`). This one, from
SSD's Caffe, depends on the losses so far, and snapshots keep what it remembers of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from moka.schema.caffe_pb2 import PlateauState, RunState, SolverParameter, SolverState


class Plateau:
    """Counts how often the rate drops.

    It drops when the smoothed loss has reached no new minimum for `patience[drops]` iterations,
    counted from the last minimum or drop; after the last entry it never drops again.

    Args:
        patience: iterations to wait for the first drop, the second, ...; none: it never drops.
        begin: iterations before this one (a warm-up) are ignored.

    Attributes:
        drops: how often the rate has dropped.
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
        """The plateau that a solver's message describes; with another lr_policy it never drops."""
        patience = config.plateau_winsize if config.lr_policy == "plateau" else ()
        return cls(patience, max(config.warmup_iter, config.rampup_interval))

    def see(self, smoothed_loss: float, iteration: int) -> bool:
        """Note the loss of an iteration; returns whether the rate drops in this iteration."""
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

    def state(self) -> SolverState:
        plateau = PlateauState(minimum_loss=self.minimum_loss, last_event=self.last_event)
        return SolverState(current_step=self.drops, run_state=RunState(plateau=plateau))

    def load_state(self, state: SolverState) -> None:
        """Go on from a state; if it keeps no losses (SSD's Caffe), the waiting starts anew."""
        self.drops = min(state.current_step, len(self.patience))
        kept = state.run_state.plateau if state.run_state.HasField("plateau") else None
        self.minimum_loss = kept.minimum_loss if kept else inf
        self.last_event = kept.last_event if kept else max(state.iter, self.begin)
