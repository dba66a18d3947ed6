"""The best test so far: whether a new test beats it, and when to stop waiting for a better one."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan

from moka.errors import SolverError, did_you_mean
from moka.net import Net
from moka.report.records import Output
from moka.schema.caffe_pb2 import BestState, RunState, SolverParameter, SolverState


class BestTest:
    """Compares one output of a test net with the best so far.

    Args:
        output: the output's name.
        net_index: which test net it belongs to.
        lower: whether a lower value is better.
        patience: tests without a better value until the run stops; 0: it never stops.

    Attributes:
        value: the best value so far, NaN before the first test.
        iteration: the iteration of that test.
        tests_since: how many tests came after it.
    """

    def __init__(self, output: str, net_index: int, *, lower: bool, patience: int) -> None:
        self.output = output
        self.net_index = net_index
        self.lower = lower
        self.patience = patience
        self.value = nan
        self.iteration = 0
        self.tests_since = 0

    @classmethod
    def of(cls, config: SolverParameter, test_nets: Sequence[Net]) -> BestTest | None:
        """The output that `snapshot_best` names, in the first test net that has it; None if unset.

        Raises:
            SolverError: no test net has it, or it is more than one number.
        """
        name = config.snapshot_best
        if not name:
            return None
        for index, net in enumerate(test_nets):
            if name in net.graph.outputs:
                if net.blobs[name].count != 1:
                    raise SolverError(
                        f"snapshot_best: the output {name} has {net.blobs[name].count} numbers, one"
                        " is wanted."
                    )
                lower = bool(dict(net.loss_tops).get(name))
                if config.HasField("snapshot_best_is"):
                    lower = config.snapshot_best_is == SolverParameter.LOWER
                return cls(name, index, lower=lower, patience=config.early_stop)
        outputs = [output for net in test_nets for output in net.graph.outputs]
        raise SolverError(
            f"snapshot_best: no test net has an output {name} (outputs:"
            f" {', '.join(dict.fromkeys(outputs)) or 'none'}).",
            advice=did_you_mean(name, outputs),
        )

    def see(self, outputs: Sequence[Output], iteration: int) -> bool:
        """Note a test's outputs; returns whether it is the best so far. NaN never is."""
        (value,) = (output.value for output in outputs if output.name == self.output)
        if isnan(value) or not self._beats(value):
            self.tests_since += 1
            return False
        self.value, self.iteration, self.tests_since = value, iteration, 0
        return True

    def _beats(self, value: float) -> bool:
        if isnan(self.value):
            return True
        return value < self.value if self.lower else value > self.value

    @property
    def exhausted(self) -> bool:
        """Whether the run should stop."""
        return 0 < self.patience <= self.tests_since

    def state(self) -> SolverState:
        best = BestState(value=self.value, iteration=self.iteration, tests_since=self.tests_since)
        return SolverState(run_state=RunState(best=best))

    def load_state(self, state: SolverState) -> None:
        if state.run_state.HasField("best"):
            best = state.run_state.best
            self.value, self.iteration = best.value, best.iteration
            self.tests_since = best.tests_since


def check_best(config: SolverParameter) -> None:
    """Raises SolverError for fields that contradict each other."""
    if config.early_stop < 0:
        raise SolverError(f"early_stop must be >= 0, got {config.early_stop}.")
    for name in ("early_stop", "snapshot_best_is"):
        asked = config.early_stop if name == "early_stop" else config.HasField(name)
        if asked and not config.snapshot_best:
            raise SolverError(f"{name} needs snapshot_best, the test output to go by.")
    if config.snapshot_best and not any(config.test_iter):
        raise SolverError("snapshot_best needs a test: give test_iter and test_interval.")
