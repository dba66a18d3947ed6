"""What a run remembers from one iteration to the next, beside parameters and histories."""

from __future__ import annotations

from collections.abc import Sequence

from moka.net import Net
from moka.schema.caffe_pb2 import RunState, SolverParameter, SolverState
from moka.solver.best import watched
from moka.solver.ema import AveragedWeights
from moka.solver.plateau import Plateau
from moka.solver.policy import stage
from moka.solver.rules import Learnable
from moka.solver.snapshots.snapshot import averaged_of
from moka.types import PathLike
from moka.weights import load_weights


class Progress:
    """Losses, plateaus, averaged weights and the best test of a run; snapshots keep all of it.

    Args:
        config: the solver's message.
        params: what is trained.
        test_nets: one of them has the output that `snapshot_best` names.

    Attributes:
        losses: the last `average_loss` ones, the oldest first.
        plateau: how often the rate has dropped.
        average: averaged weights, None without ema_decay.
        best: the best test, None without snapshot_best.
        tested_at: the iteration whose tests are done.

    Raises:
        SolverError: snapshot_best names no output, or one of several numbers.
    """

    def __init__(
        self, config: SolverParameter, params: Sequence[Learnable], test_nets: Sequence[Net]
    ) -> None:
        self.config = config
        self.losses: list[float] = []
        self.plateau = Plateau.of(config)
        parameters = [p.parameter for p in params]
        self.average = AveragedWeights(parameters, config.ema_decay) if config.ema_decay else None
        self.best = watched(config, test_nets)
        self.tested_at: int | None = None

    def smoothed(self, loss: float) -> float:
        """The mean of the last average_loss losses, this one included."""
        self.losses.append(loss)
        del self.losses[: -self.config.average_loss]
        return sum(self.losses) / len(self.losses)

    def current_step(self, iteration: int) -> int:
        """How often a policy of steps has lowered the rate, before `iteration` is made."""
        if self.config.lr_policy == "plateau":
            return self.plateau.drops
        return stage(self.config, iteration - 1) if iteration else 0

    def save(self, run: RunState, iteration: int) -> None:
        """Put everything but averaged weights, which have a file of their own, into a snapshot."""
        run.recent_loss.extend(self.losses)
        if self.config.lr_policy == "plateau":
            run.plateau.CopyFrom(self.plateau.state())
        if self.best:
            run.best.CopyFrom(self.best.state())
        if self.tested_at == iteration:
            run.tested = True

    def load(self, state: SolverState, state_file: PathLike, net: Net) -> None:
        """Go on from a snapshot whose model the net has loaded already.

        Raises:
            WeightsError: averaged weights that are missing or belong to another net.
        """
        run = state.run_state
        if self.average:
            self._load_average(self.average, averaged_of(state, state_file), net)
        self.losses = list(run.recent_loss)
        self.plateau.load_state(
            state.current_step, run.plateau if run.HasField("plateau") else None, state.iter
        )
        if self.best and run.HasField("best"):
            self.best.load_state(run.best)
        self.tested_at = state.iter if run.tested else None

    def _load_average(self, average: AveragedWeights, file: str | None, net: Net) -> None:
        average.forget()
        if file is not None:
            with average.in_place():
                load_weights(net, [file])
                average.restart()
