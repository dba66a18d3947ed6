"""When the loss has reached a plateau: the state of lr_policy "plateau".

Other policies compute the rate from the iteration alone (`moka.solver.policy`). This one, from
SSD's Caffe, depends on the losses so far, and snapshots keep what it remembers of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from moka.schema.caffe_pb2 import PlateauState, RunState, SolverParameter, SolverState

LARGEST = float(np.float32(1e38))  # SSD's loss before the first one, in single precision


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
        return SolverState(
            current_step=self.drops,
            minimum_loss=min(self.minimum_loss, LARGEST),
            iter_last_event=self.last_event,
            run_state=RunState(plateau=plateau),
        )

    def load_state(self, state: SolverState) -> None:
        """Go on from a state, Moka's or SSD's; if it keeps no losses, the waiting starts anew."""
        self.drops = min(state.current_step, len(self.patience))
        if state.run_state.HasField("plateau"):
            kept = state.run_state.plateau
            self.minimum_loss, self.last_event = kept.minimum_loss, kept.last_event
        elif state.HasField("minimum_loss"):
            least = state.minimum_loss
            self.minimum_loss = least if least < LARGEST else inf
            self.last_event = max(state.iter_last_event, self.begin)
        else:
            self.minimum_loss, self.last_event = inf, max(state.iter, self.begin)
