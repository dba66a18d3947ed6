"""What a pycaffe program declares about its solvers before it makes them.

Per thread, as in Caffe. `caffe.NCCL` connects the solvers afterwards.
"""

from __future__ import annotations

import threading

from moka.errors import UsageError
from moka.parallel.team import Alone


class _Declared(threading.local):
    count = 1
    rank = 0
    multiprocess = False


_declared = _Declared()


def declared_team() -> Alone:
    """The place of a solver that this thread makes now among those that train with it."""
    return Alone(_declared.rank, _declared.count)


def solver_count() -> int:
    """How many solvers train one model together, each on its share of the data."""
    return _declared.count


def set_solver_count(count: int) -> None:
    """Say how many solvers, including this thread's, train one model together.

    Raises:
        UsageError: fewer than one.
    """
    if count < 1:
        raise UsageError(f"the number of solvers must be >= 1, got {count}.")
    _declared.count = count


def solver_rank() -> int:
    """The rank of this thread's solver among them, from 0; solver 0 tests, logs and saves."""
    return _declared.rank


def set_solver_rank(rank: int) -> None:
    """Say which of several solvers this thread's is.

    Raises:
        UsageError: below 0.
    """
    if rank < 0:
        raise UsageError(f"the rank of a solver must be >= 0, got {rank}.")
    _declared.rank = rank


def multiprocess() -> bool:
    """Whether each solver runs in a process of its own, not in a thread of one process."""
    return _declared.multiprocess


def set_multiprocess(multiprocess: bool) -> None:
    """Say whether each solver runs in a process of its own, not in a thread of one process."""
    _declared.multiprocess = bool(multiprocess)
