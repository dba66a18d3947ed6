"""The record of an iteration, with the time since the last one on display."""

from __future__ import annotations

import time
from collections.abc import Sequence

from moka.parallel.pace import Slowest
from moka.report.records import IterationCompleted, Output
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.policy import stage
from moka.solver.update import Clipped


class Lapse:
    """Measures how long it takes from one displayed iteration to the next.

    Args:
        iteration: the one that comes next.
    """

    def __init__(self, iteration: int) -> None:
        self._start_s = time.perf_counter()
        self._first = iteration

    def record(
        self,
        config: SolverParameter,
        iteration: int,
        *,
        loss: float,
        rate: float,
        outputs: Sequence[Output],
        plateau: int | None,
        clipped: Clipped | None,
        waited_s: float,
        slowest: Slowest | None = None,
    ) -> IterationCompleted:
        """The record of an iteration that has just been made."""
        now_s = time.perf_counter()
        displayed = config.display > 0 and iteration % config.display == 0
        made = IterationCompleted(
            iteration=iteration,
            loss=loss,
            rate=rate,
            displayed=displayed,
            outputs=tuple(outputs),
            lapse_s=now_s - self._start_s,
            lapse_iterations=iteration - self._first,
            display_every=config.display,
            stage=_new_stage(config, iteration),
            plateau=plateau,
            clipped=clipped,
            waited_s=waited_s,
            slowest=slowest,
        )
        if displayed:
            self._start_s, self._first = now_s, iteration
        return made


def _new_stage(config: SolverParameter, iteration: int) -> int | None:
    """The stage that multistep reaches with this iteration, None if it stays where it was."""
    if config.lr_policy != "multistep":
        return None
    here = stage(config, iteration)
    before = stage(config, iteration - 1) if iteration else 0
    return here if here != before else None
