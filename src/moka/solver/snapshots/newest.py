"""Chooses the snapshot that a restarted run resumes from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from moka.errors import MokaError, SolverError
from moka.schema.caffe_pb2 import SolverState
from moka.solver.snapshots.names import snapshots
from moka.solver.snapshots.state_file import read_state

log = logging.getLogger("moka")


NOTHING: Mapping[str, int] = MappingProxyType({})


def written_snapshots(prefix: str) -> dict[str, int]:
    """The state files under a prefix, with the time when each was written, in nanoseconds."""
    return {state: _written_ns(state) for _, _, state in snapshots(prefix)}


def newest_state(
    prefix: str,
    other_net: Callable[[SolverState, str], str | None],
    passing_over: Mapping[str, int] = NOTHING,
) -> str | None:
    """The state of the newest snapshot of this run's net, or None.

    The newest is the one whose state was written last, whatever its iteration: a longer run may
    have left higher numbers under the same prefix. Among files of the same time, as copies may be,
    the highest iteration is the newest. The log names snapshots that are passed over.

    Args:
        prefix: of the snapshots.
        other_net: called with a state and its file; returns why they belong to another net, None
            if to this one; raises a MokaError if the state or its model cannot be used at all.
        passing_over: state files to leave aside, with the time when they were written; a file of
            that name that was written later counts.

    Raises:
        SolverError: no snapshot fits, and some cannot be read; starting afresh would overwrite
            them.
    """
    unusable: list[str] = []
    others: list[str] = []
    taken: str | None = None
    found = ((_written_ns(state), i, state) for i, _, state in snapshots(prefix))
    by_age = sorted(each for each in found if passing_over.get(each[2]) != each[0])
    remaining = list(reversed(by_age))
    while remaining and taken is None:
        _, iteration, file = remaining.pop(0)
        try:
            why = other_net(read_state(file), file)
        except MokaError as error:
            unusable.append(str(error))
            continue
        if why:
            others.append(f"{file} is of another net and is left aside: {why}")
        else:
            taken = file
            others += [
                f"{older} has a higher iteration but is older than {file}, which is taken."
                for _, i, older in remaining
                if i > iteration
            ]
    if unusable and taken is None:
        raise SolverError(
            f"none of the snapshots under {prefix} can be used; the newest: {unusable[0]}",
            advice="Move them away to start afresh, or choose another snapshot_prefix.",
        )
    for sentence in unusable:
        log.warning("%s The snapshot before it is taken.", sentence)
    for sentence in others:
        log.warning("%s", sentence)
    return taken


def _written_ns(file: str) -> int:
    """When a file was written, in nanoseconds; 0 if it is gone."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0
