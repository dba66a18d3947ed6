"""The tests of a run: its test nets, scored on the parameters that are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from moka.engine.scoring import score
from moka.engine.training import TrainingStep
from moka.net import Net
from moka.report.records import Output, Record, TestCompleted, TestStarted
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.averaged_weights import AveragedWeights
from moka.weights import share_weights


class Tests:
    """Runs every test net over its batches.

    Args:
        config: the solver's message.
        nets: the test nets.
        trained: the net whose parameters they use.
        average: averaged weights, None if none are kept.
        keep_blobs: leave every blob in view.
    """

    __test__ = False

    def __init__(
        self,
        config: SolverParameter,
        nets: Sequence[Net],
        trained: Net,
        average: AveragedWeights | None,
        *,
        keep_blobs: bool,
    ) -> None:
        self._config = config
        self._nets = nets
        self._trained = trained
        self._average = average
        self._passes = [TrainingStep(net, keep_blobs=keep_blobs) for net in nets]
        for net in nets:
            share_weights(net, trained, say_what_is_missing=False)
            net.debug_info = config.debug_info

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
        for index, net in enumerate(self._nets):
            announce(TestStarted(iteration, index))
            share_weights(net, self._trained)
            averaged = self._average if self._config.test_with_ema else None
            with averaged.in_place() if averaged else nullcontext():
                batches = self._config.test_iter[index]
                result = score(self._passes[index], batches, lambda *_: is_stopped())
            if result is None:
                return None
            means, loss = result
            wanted = loss if self._config.test_compute_loss else None
            announce(TestCompleted(iteration, index, means, wanted))
            if is_stopped():
                return None
            outputs.append(means)
        return outputs
