"""The tests of a run: its test nets, scored on the parameters that are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from moka.engine.contract import Engine
from moka.engine.evaluate import ALONE, evaluate
from moka.engine.pass_start import statistics_of
from moka.net import Net
from moka.parallel.share import share_batches
from moka.parallel.team import Team
from moka.report.records import ClassesTested, Output, Record, TestCompleted, TestStarted
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.average_precision import Precisions, mean_precisions
from moka.solver.averaged_weights import AveragedWeights
from moka.weights import share_weights


class Tests:
    """Runs every test net over its batches.

    Args:
        config: the solver's message.
        engines: of the test nets.
        trained: the net whose parameters they use.
        average: averaged weights, None if none are kept.
        team: the processes that train the model; they share the batches of the test nets that
            allow it (`share_batches`), the first process runs the others.

    Attributes:
        are_shared: whether all processes of the team have to call `run`.
    """

    __test__ = False

    def __init__(
        self,
        config: SolverParameter,
        engines: Sequence[Engine],
        trained: Net,
        average: AveragedWeights | None,
        team: Team,
    ) -> None:
        self._team = team
        counts = config.eval_type != "detection"
        self._shared = [counts and share_batches(engine.net, team) for engine in engines]
        self.are_shared = any(self._shared)
        self._config = config
        self._trained = trained
        self._average = average
        self._engines = engines
        for engine in engines:
            share_weights(engine.net, trained, say_what_is_missing=False)
            engine.layerwise.debug_info = config.debug_info

    def run(
        self,
        iteration: int,
        announce: Callable[[Record], object],
        is_stopped: Callable[[], bool],
    ) -> list[Sequence[Output]] | None:
        """The mean outputs of each net, which are announced too.

        Args:
            is_stopped: asked after each batch; True gives up.

        Returns:
            None if given up.
        """
        outputs: list[Sequence[Output]] = []
        all_run = self._team if self.are_shared else ALONE
        for index, is_shared in enumerate(self._shared):
            means: Sequence[Output] | None = ()
            if is_shared or self._team.is_first:
                means = self._run_net(iteration, index, announce, is_stopped)
            if all_run.any(means is None or is_stopped())[0]:
                return None
            outputs.append(means or ())
        return outputs

    def _run_net(
        self,
        iteration: int,
        index: int,
        announce: Callable[[Record], object],
        is_stopped: Callable[[], bool],
    ) -> Sequence[Output] | None:
        """The mean outputs of one net, None if given up."""
        engine = self._engines[index]
        team = self._team if self._shared[index] else ALONE
        announce(TestStarted(iteration, index))
        share_weights(engine.net, self._trained)
        if not self._config.test_iter[index]:  # as in Caffe: a test of no batches has no outputs
            announce(TestCompleted(iteration, index, (), None))
            return ()
        averaged = self._average if self._config.test_with_ema else None
        with averaged.in_place() if averaged else nullcontext():
            if team.is_connected:
                team.copy_from_first(statistics_of(engine.net))
            if self._config.eval_type == "detection":
                result = self._precisions(iteration, index, announce, is_stopped)
            else:
                batches = self._config.test_iter[index]
                result = evaluate(engine, batches, lambda *_: is_stopped(), team)
        if result is None:
            return None
        means, loss = result
        wanted = loss if self._config.test_compute_loss else None
        announce(TestCompleted(iteration, index, means, wanted))
        return means

    def _precisions(
        self,
        iteration: int,
        index: int,
        announce: Callable[[Record], object],
        is_stopped: Callable[[], bool],
    ) -> tuple[tuple[Output, ...], float] | None:
        """What a test net for detection scores."""

        def see_classes(output: str, precisions: Precisions) -> None:
            announce(ClassesTested(iteration, index, output, precisions))

        config = self._config
        return mean_precisions(
            self._engines[index],
            config.test_iter[index],
            config.ap_version,
            is_stopped,
            see_classes if config.show_per_class_result else None,
        )
