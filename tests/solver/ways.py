"""The ways in which a solver can make a step, all on the CPU, which plays the GPU where need be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

from moka.solver.solver import Solver

T = TypeVar("T")
WAYS = ("early", "late", "recorded")


class StandIn:
    """Records by keeping the work; each run puts its results into the tensors of the first run.

    As a CUDA graph does, it fixes what Python computes: only tensors may change from run to run.

    Attributes:
        runs: how often recorded work has run.
    """

    def __init__(self) -> None:
        self.runs = 0

    def warm_up(self, work: Callable[[], T]) -> T:
        return work()

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        results: list[T] = []

        def replay() -> T:
            self.runs += 1
            results.append(work())
            for old, new in zip(_tensors(results[0]), _tensors(results[-1]), strict=True):
                old.copy_(new)
            del results[1:]
            return results[0]

        return replay


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        return [tensor for value in result.values() for tensor in _tensors(value)]
    if is_dataclass(result):
        return [tensor for f in fields(result) for tensor in _tensors(getattr(result, f.name))]
    return []


def in_this_way(solver: Solver, way: str) -> Solver:
    """The solver, which makes its steps in one of the WAYS from now on."""
    solver.reads_late = way != "early"
    if way == "recorded":
        recorder = StandIn()
        solver.late_step.record(recorder, warm_ups=1)
        solver.late_step.recorder = recorder  # type: ignore[attr-defined]
    return solver


def runs_of(solver: Solver) -> int:
    """How many steps have run as a recording."""
    return solver.late_step.recorder.runs  # type: ignore[attr-defined]
