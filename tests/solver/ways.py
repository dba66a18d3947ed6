"""The ways in which a solver can make a step, all on the CPU, which plays the GPU where need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from moka.solver.solver import Solver

T = TypeVar("T")
WAYS = ("early", "late", "recorded")


class StandIn:
    """Records the operators of some work as a CUDA graph does, and runs them on a CPU.

    A run repeats the same operators on the same tensors with the same Python numbers; what Python
    would compute anew is fixed.

    Attributes:
        runs: how often recorded work has run.
    """

    def __init__(self) -> None:
        self.runs = 0

    def warm_up(self, work: Callable[[], T]) -> T:
        return work()

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        with _Operators() as operators:
            result = work()  # which has done the work of the first run
        has_run = False

        def replay() -> T:
            nonlocal has_run
            self.runs += 1
            if has_run:
                operators.run()
            has_run = True
            return result

        return replay


class _Operators(TorchDispatchMode):
    """Notes every operator, those of the backward pass too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._noted: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._noted.append((func, args, kwargs or {}, result))
        return result

    def run(self) -> None:
        """Run them again, and put the results where the first run has put them."""
        with torch.no_grad():
            for func, args, kwargs, result in self._noted:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


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
