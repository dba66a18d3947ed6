"""What a member of a team hears from the others: two real processes."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from tests.processes import run_together

from moka.errors import SolverError
from moka.parallel import join as join_module
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


def warnings() -> list[str]:
    """What Moka says from now on."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("moka").addHandler(handler)
    return said


def wait_for_a_slow_one(rank: int, count: int, uid: bytes) -> list[str]:
    team = join_team(uid, rank, count, CPU, patience_s=20, notice_s=0.2)
    said = warnings()
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


def come_late(rank: int, count: int, uid: bytes) -> list[str]:
    """The second process comes when the first has warned twice."""
    said, store = warnings(), dist.FileStore(uid.decode(), count)  # type: ignore[attr-defined]
    if rank:
        store.wait(["warned/2"])
    else:
        counting = logging.Handler()
        counting.emit = lambda _: store.set(f"warned/{len(said)}", "yes")  # type: ignore
        logging.getLogger("moka").addHandler(counting)
    join_team(uid, rank, count, CPU, patience_s=20, notice_s=20 if rank else 0.2)
    return said


def test_who_waits_for_one_that_has_not_come_says_so() -> None:
    first, second = run_together(come_late, uid=new_uid(), patience_s=15)
    assert first[:2] == [
        f"Process 0 of 2 has waited {s} s for others, which have not come: 1." for s in (0.2, 0.4)
    ]
    assert second == []


def test_others_that_do_not_come() -> None:
    said = r"process 0 of 3 could not join the others: within 0.2 s these have not come: 1, 2"
    with pytest.raises(SolverError, match=said):
        join_team(new_uid(), 0, 3, CPU, patience_s=0.2)


@pytest.mark.skipif(join_module.HAS_OLD_GLOO, reason="waits for hours")
def test_one_that_has_come_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it as long as for one that works."""
    monkeypatch.setattr(join_module, "CONNECT_S", 0.5)
    uid = new_uid()
    dist.FileStore(uid.decode(), 2).set("came/1", "yes")  # type: ignore[attr-defined]
    said = "process 0 of 2 could not join the others: one of them came and does not answer"
    with pytest.raises(SolverError, match=said):
        join_team(uid, 0, 2, CPU)


def work_long(rank: int, count: int, uid: bytes) -> dict[int, tuple[float, ...]]:
    join_module.CONNECT_S = 1.0
    team = join(rank, count, uid)
    if rank:
        time.sleep(2.5)
    return team.gather_numbers(rank)


def test_who_has_joined_may_take_longer_than_joining_does() -> None:
    assert run_together(work_long, uid=new_uid()) == [{0: (0.0,), 1: (1.0,)}] * 2


@pytest.mark.parametrize(("is_old", "seconds"), [(False, 5.0), (True, 60.0)])
def test_old_versions_wait_for_messages_as_long_as_for_connections(
    monkeypatch: pytest.MonkeyPatch, is_old: bool, seconds: float
) -> None:
    waits: list[timedelta] = []

    def refuse(*_: Any, timeout: timedelta, **__: Any) -> None:
        waits.append(timeout)
        raise RuntimeError("refused")

    monkeypatch.setattr(join_module, "HAS_OLD_GLOO", is_old)
    monkeypatch.setattr(dist, "init_process_group", refuse)
    with pytest.raises(RuntimeError, match="does not answer"):
        join_module.connect(Mock(), 0, 2, CPU, connect_s=5.0, patience_s=60.0)
    assert waits == [timedelta(seconds=seconds)]


@pytest.mark.parametrize("is_old", [False, True])
def test_messages_stay_while_threads_of_an_old_gloo_may_refer_to_them(
    monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    monkeypatch.setattr(join_module, "HAS_OLD_GLOO", is_old)
    sent: list[Any] = []

    def gather(rows: list[torch.Tensor], own: torch.Tensor, **_: Any) -> Any:
        sent.append([weakref.ref(each) for each in (own, *rows)])
        for row in rows:
            row.copy_(own)
        return Mock()

    monkeypatch.setattr(dist, "all_gather", gather)
    monkeypatch.setattr(dist, "destroy_process_group", Mock())
    monkeypatch.setattr(atexit, "register", Mock())
    team = join_module._Connected(0, 2, 300.0)
    assert team.gather_numbers(3) == {0: (3.0,), 1: (3.0,)}
    assert {each() is not None for each in sent[0]} == {is_old}
    for _ in range(9):
        team.gather_numbers(3)
    assert all(each() is None for each in sent[0])
    team.leave()
    assert all(each() is None for each in sent[-1])
