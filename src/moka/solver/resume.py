"""What a run begins with: nothing, a snapshot that is given, or the newest."""

from __future__ import annotations

import logging

from moka.parallel.launched import Run
from moka.solver.snapshots.newest import written_snapshots
from moka.solver.solver import Solver

log = logging.getLogger("moka")


def state_to_resume(solver: Solver, given: str, run: Run | None) -> str | None:
    """The state that a run goes on from, None for none.

    A run whose processes have been started again goes on from the newest snapshot of its own.

    Args:
        given: a state file; "auto": the newest under the solver's prefix; "": none.
        run: what the run keeps while its processes are started again, None if they never are.

    Raises:
        SolverError: there are snapshots, but none that can be used.
    """
    if run is not None and run.restart:
        own = solver.newest_snapshot(passing_over=run.remembered())
        if own:
            return own
    elif run is not None and solver.team.is_first:
        run.remember(written_snapshots(solver.prefix))
    if given != "auto":
        return given or None
    state = solver.newest_snapshot()
    log.info("Found %s", state or f"no snapshot under {solver.prefix}: starting afresh")
    return state
