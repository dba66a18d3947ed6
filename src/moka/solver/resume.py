"""What a run begins with: nothing, a snapshot that is given, or the newest."""

from __future__ import annotations

import json
import logging
import zlib

from moka.errors import SolverError
from moka.files import read_bytes
from moka.parallel.launched import Run
from moka.solver.snapshots.newest import NOTHING, written_snapshots
from moka.solver.solver import Solver

log = logging.getLogger("moka")


def state_to_resume(solver: Solver, given: str, run: Run | None) -> str | None:
    """The state that a run goes on from, None for none.

    A run whose processes have been started again goes on from the newest snapshot of its own. The
    first process of a team chooses; the others go on from the same state, or all end.

    Args:
        given: a state file; "auto": the newest under the solver's prefix; "": none.
        run: what the run keeps while its processes are started again, None if they never are.

    Raises:
        SolverError: there are snapshots, but none that can be used; or another process does not
            see the one that the first has chosen.
    """
    team = solver.team
    if not team.is_connected:
        return _choose(solver, given, run)
    if team.is_first:
        own = _choose(solver, given, run)
    said = json.dumps([own, solver.prefix]) if team.is_first else ""
    theirs, prefix = json.loads(team.gather_messages(said.encode())[0])
    if not team.is_first:
        own = _here(theirs, prefix, solver, given) if theirs else _own_newest(solver, given, run)
    told = team.gather_messages(json.dumps([own, _checksum(own)]).encode())
    seen = {rank: json.loads(message) for rank, message in told.items()}
    for rank, (file, checksum) in seen.items():
        if checksum != seen[0][1] and (seen[0][1] or not theirs):
            raise SolverError(
                f"process {rank} of {team.size} {_difference(file, checksum, theirs)}.",
                advice="Let snapshot_prefix name a folder that all machines see.",
            )
    return own


def _choose(solver: Solver, given: str, run: Run | None) -> str | None:
    """The state that a process goes on from that asks nobody."""
    if run is not None:
        if run.remembered() is None and not run.restart:
            run.remember(written_snapshots(solver.prefix))
        elif own := solver.newest_snapshot(run.remembered() or NOTHING):
            return own
    if given != "auto":
        return given or None
    state = solver.newest_snapshot()
    log.info("Found %s", state or f"no snapshot under {solver.prefix}: starting afresh")
    return state


def _own_newest(solver: Solver, given: str, run: Run | None) -> str | None:
    """The snapshot of this process that a run should have gone on from, if the first has none."""
    if given == "auto":
        return solver.newest_snapshot()
    return solver.newest_snapshot(run.remembered() or NOTHING) if run and run.restart else None


def _here(theirs: str, prefix: str, solver: Solver, given: str) -> str:
    """The file of this process that corresponds to the one that the first process has chosen."""
    if theirs.startswith(prefix):
        return solver.prefix + theirs.removeprefix(prefix)
    return given if given not in ("", "auto") else theirs


def _difference(own: str, checksum: str, theirs: str | None) -> str:
    """What is wrong with the state of a process, beside that of the first."""
    if theirs is None:
        return f"has found {own}, but the first has no snapshot"
    which = f"another {own}" if checksum else f"no {own}"
    return f"does not see the snapshot that the first goes on from, {theirs}: it has {which}"


def _checksum(file: str | None) -> str:
    """Of a file's bytes; nothing for no file, or one that cannot be read."""
    try:
        return f"{zlib.crc32(read_bytes(file)):08x}" if file else ""
    except OSError:
        return ""
