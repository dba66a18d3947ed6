"""The ways in which a solver can make a step, all on the CPU, which plays the GPU where need be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from moka.engine.captured import Inputs
from moka.engine.tape import OperatorRecorder
from moka.solver.solver import Solver

T = TypeVar("T")
WAYS = ("early", "late", "recorded")


class CountingRecorder(OperatorRecorder):
    """Records on a CPU.

    Attributes:
        runs: how often recorded work has run.
    """

    def __init__(self) -> None:
        self.runs = 0

    def record(self, work: Callable[[Inputs], T], inputs: Inputs) -> Callable[[Inputs], T]:
        replay = super().record(work, inputs)

        def counted(given: Inputs) -> T:
            self.runs += 1
            return replay(given)

        return counted


def in_this_way(solver: Solver, way: str) -> Solver:
    """The solver, which makes its steps in one of the WAYS from now on."""
    solver.reads_late = way != "early"
    if way == "recorded":
        recorder = CountingRecorder()
        solver.late_step.record(recorder, warm_ups=1)
        solver.late_step.recorder = recorder  # type: ignore[attr-defined]
    return solver


def runs_of(solver: Solver) -> int:
    """How many steps have run as a recording."""
    return solver.late_step.recorder.runs  # type: ignore[attr-defined]
