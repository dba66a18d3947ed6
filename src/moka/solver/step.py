"""One iteration of the solver: its passes, whether they may count, and its update."""

from __future__ import annotations

from collections.abc import Sequence

from moka.engine.autograd import Autograd
from moka.parallel.reduce import GradientMean
from moka.parallel.team import Team
from moka.parallel.together import Together
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.faults.divergence import Guard, all_finite, nonfinite_fact
from moka.solver.learnable import Learnable, make_grads
from moka.solver.requests import Requests
from moka.solver.rules import Rule
from moka.solver.update import Clipped, apply_update


class Step:
    """Runs the passes, looks at what they have found, and only then updates.

    Args:
        config: the solver's message.
        engine: runs the net.
        rule: updates its parameters.
        team: the processes that train the model.
        mean: averages their gradients.
        together: what is done because of other processes.
        guard: keeps steps that are not finite from the parameters.
        requests: what this process is asked for; all hear of it with the loss.
    """

    def __init__(
        self,
        config: SolverParameter,
        engine: Autograd,
        rule: Rule,
        team: Team,
        mean: GradientMean,
        together: Together,
        guard: Guard,
        requests: Requests,
    ) -> None:
        self.config = config
        self.engine = engine
        self.rule = rule
        self.team = team
        self.guard = guard
        self.requests = requests
        self._mean = mean
        self._together = together

    @property
    def params(self) -> Sequence[Learnable]:
        """What is updated."""
        return self.rule.params

    def run_passes(self, iteration: int, rate: float) -> float | None:
        """The iter_size passes of an iteration; returns their mean loss, None if the step has to be
        skipped.

        Args:
            rate: the learning rate, for messages.
        """
        total = 0.0
        by_layer = self.engine.goes_layer_by_layer  # may add to a gradient several times in a pass
        for remaining in reversed(range(self.config.iter_size)):
            is_whole = not remaining and not by_layer
            overlapped = self._mean.overlapped(is_whole)
            with self.engine.net.parameters_in_use(), self._together.passing(), overlapped:
                loss = float(self.engine.forward_backward())
                make_grads(self.params)
            fact = nonfinite_fact(loss, all_finite([p.grad for p in self.params]))
            mean = self.agree_on_loss(loss, fact, iteration, rate)
            if mean is None:
                self._mean.discard()
                return None
            total += mean
        self.guard.passed()
        return total / self.config.iter_size

    def agree_on_loss(
        self, loss: float, fact: str | None, iteration: int, rate: float
    ) -> float | None:
        """The mean loss of all processes after a pass; None if one of them has a fault.

        Args:
            fact: what is not finite in this process, None if all is.
        """
        told = self.team.gather_numbers(loss, fact is not None, *self.requests.own())
        self.requests.agree(asked for _, _, *asked in told.values())
        if any(is_faulty for _, is_faulty, *_ in told.values()):
            with self._together.alone():
                self.guard.refuse(fact, self.engine.start, iteration, rate, self.team)
            return None
        return sum(other for other, *_ in told.values()) / len(told)

    def update(self, iteration: int, rate: float) -> Clipped | None:
        """Update the parameters; returns whether gradients were clipped."""
        return apply_update(self.rule, self.config, iteration, rate)
