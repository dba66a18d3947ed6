"""The state of a run between iterations, beside parameters and histories."""

from __future__ import annotations

from collections.abc import Sequence

from moka.net import Net
from moka.schema.caffe_pb2 import RunState, SolverParameter, SolverState
from moka.solver.best_test import BestTest
from moka.solver.plateau import Plateau
from moka.solver.policy import rate, stage


class Progress:
    """Iteration, losses, plateaus and the best test of a run.

    Args:
        config: the solver's message.
        test_nets: one of them has the output that `snapshot_best` names.

    Attributes:
        iteration: how many updates have been made.
        losses: the last `average_loss` losses, the oldest first.
        plateau: how often the rate has dropped.
        best: the best test, None without snapshot_best.
        tested_at: the iteration whose tests are done.

    Raises:
        SolverError: snapshot_best names no output, or one of several numbers.
    """

    def __init__(self, config: SolverParameter, test_nets: Sequence[Net]) -> None:
        self.config = config
        self.iteration = 0
        self.losses: list[float] = []
        self.plateau = Plateau.of(config)
        self.best = BestTest.of(config, test_nets)
        self.tested_at: int | None = None

    @property
    def rate(self) -> float:
        """The learning rate of the next iteration."""
        return rate(self.config, self.iteration, self.plateau.drops)

    def smoothed(self, loss: float) -> float:
        """The mean of the last average_loss losses, including this one."""
        self.losses.append(loss)
        del self.losses[: -self.config.average_loss]
        return sum(self.losses) / len(self.losses)

    def is_due(self, every: int, offset: int = 0) -> bool:
        """Whether something that happens every so many iterations, counted from `offset`, happens
        now; 0: never."""
        return every > 0 and (self.iteration - offset) % every == 0

    @property
    def tests_are_due(self) -> bool:
        """Whether to test before the next iteration."""
        begins = self.iteration == 0 and not self.config.test_initialization
        is_tested = self.iteration == self.tested_at
        is_due = self.is_due(self.config.test_interval, self.config.test_offset)
        return is_due and not begins and not is_tested

    @property
    def stages_passed(self) -> int:
        """How often the policy has lowered the rate up to the last iteration that was made."""
        return stage(self.config, self.iteration - 1) if self.iteration else 0

    def state(self) -> SolverState:
        run = RunState(recent_loss=self.losses)
        if self.tested_at == self.iteration:
            run.tested = True
        state = SolverState(iter=self.iteration, current_step=self.stages_passed, run_state=run)
        if self.config.lr_policy == "plateau":
            state.MergeFrom(self.plateau.state())
        if self.best:
            state.MergeFrom(self.best.state())
        return state

    def load_state(self, state: SolverState) -> None:
        self.iteration = state.iter
        self.losses = list(state.run_state.recent_loss)
        self.plateau.load_state(state)
        if self.best:
            self.best.load_state(state)
        self.tested_at = state.iter if state.run_state.tested else None
