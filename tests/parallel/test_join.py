"""What a member of a team hears from the others: two real processes."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import pytest
import torch
from tests.processes import run_together

from moka.errors import SolverError
from moka.parallel.join import join_team, new_uid
from moka.parallel.team import Alone, Team

CPU = torch.device("cpu")


def join(rank: int, count: int, uid: bytes) -> Team:
    return join_team(uid, rank, count, CPU, patience_s=20)


def tell(rank: int, count: int, uid: bytes) -> Any:
    team = join(rank, count, uid)
    mean, copied = [torch.full((2, 2), float(rank)), torch.ones(3)], torch.arange(2.0) + 10 * rank
    team.average(mean)
    team.average([])
    team.copy_from_first([copied])
    return (
        team.gather_numbers(0.5 + rank, float("nan") if rank else 1e300),
        team.gather_messages(b"" if rank else b"zero\0"),
        team.gather_messages(b""),
        team.any(rank == 1, False),
        [tensor.tolist() for tensor in mean],
        copied.tolist(),
        (team.rank, team.size, team.is_connected),
    )


def test_two_hear_each_other() -> None:
    uid = new_uid()
    first, second = run_together(tell, uid=uid)
    for rank, found in enumerate((first, second)):
        numbers, messages, none, flags, mean, copied, place = found
        assert numbers[0] == (0.5, 1e300)
        assert numbers[1][0] == 1.5
        assert numbers[1][1] != numbers[1][1]  # NaN
        assert messages == {0: b"zero\0", 1: b""}
        assert none == {0: b"", 1: b""}
        assert flags == (True, False)
        assert mean == [[[0.5, 0.5], [0.5, 0.5]], [1, 1, 1]]
        assert copied == [0, 1]
        assert place == (rank, 2, True)
    assert not os.path.exists(uid)


def leave(rank: int, count: int, uid: bytes) -> str:
    team = join(rank, count, uid)
    if rank:
        with pytest.raises(ZeroDivisionError), team.leaving_on_error():
            raise ZeroDivisionError
        assert not team.is_connected
        team.leave()  # once more does no harm
    with pytest.raises(SolverError) as error:
        team.any(True)
    return str(error.value)


def test_who_leaves_is_missed_at_once() -> None:
    first, second = run_together(leave, uid=new_uid(), patience_s=15)
    assert "process 0 of the 2 that train together can no longer reach the others." in first
    assert "process 1 of the 2 that train together has left the others" in second


def test_who_ends_is_missed_at_once() -> None:
    first, _ = run_together(end, uid=new_uid(), patience_s=15)
    assert "One of them has ended, or hangs; its own log or error says why." in first


def end(rank: int, count: int, uid: bytes) -> str:
    team = join(rank, count, uid)
    if rank:
        return ""
    with pytest.raises(SolverError) as error:
        team.gather_numbers(1)
    return str(error.value)


def wait_for_a_slow_one(rank: int, count: int, uid: bytes) -> list[str]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("moka").addHandler(handler)
    team = join_team(uid, rank, count, CPU, patience_s=20, notice_s=0.2)
    if rank:
        time.sleep(1)
    assert team.gather_numbers(rank) == {0: (0.0,), 1: (1.0,)}
    team.leave()
    return said


def test_who_waits_long_says_so_and_goes_on() -> None:
    first, second = run_together(wait_for_a_slow_one, uid=new_uid(), patience_s=15)
    assert first[0] == (
        "Process 0 of 2 has waited 0.2 s for the others. The first one may be testing, or one of"
        " them hangs."
    )
    assert len(first) in (2, 3)  # after 0.2 s, 0.6 s and, on a slow machine, 1.4 s
    assert second == []


def hang(rank: int, count: int, uid: bytes) -> str:
    team = join_team(uid, rank, count, CPU, patience_s=1.5)
    if rank:
        time.sleep(3)
        return ""
    with pytest.raises(SolverError) as error:
        team.gather_numbers(1)
    return str(error.value)


def test_who_hangs_is_given_up() -> None:
    first, _ = run_together(hang, uid=new_uid(), patience_s=15)
    assert "process 0 of the 2 that train together can no longer reach the others." in first


def test_one_of_one_is_alone() -> None:
    assert isinstance(join_team(new_uid(), 0, 1, CPU), Alone)


def test_a_rank_beyond_the_size() -> None:
    with pytest.raises(SolverError, match="a process of rank 2 cannot be one of 2"):
        join_team(new_uid(), 2, 2, CPU)


def test_others_that_do_not_come() -> None:
    with pytest.raises(SolverError, match="process 0 of 2 could not join the others: "):
        join_team(new_uid(), 0, 2, CPU, patience_s=0.2)
