from __future__ import annotations

import pytest
import torch

from moka.errors import SolverError
from moka.parallel.team import Alone, TeamLostError


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (2, 4)])
def test_who_is_alone_hears_itself(rank: int, size: int) -> None:
    team = Alone(rank, size)
    assert team.gather_numbers(1.5, True) == {rank: (1.5, True)}
    assert team.gather_messages(b"a") == {rank: b"a"}
    assert team.any(False, True, False) == (False, True, False)
    tensor = torch.tensor([1.0])
    team.average([tensor])
    team.copy_from_first([tensor])
    assert tensor.tolist() == [1]
    assert (team.is_first, team.is_connected, team.own_seed(7)) == (rank == 0, False, 7 + rank)
    team.leave()


class Recorded(Alone):
    """Notes how it was left."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    def leave(self, why: str = "") -> None:
        self.left.append(why)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (SolverError("the disk is full."), "the disk is full."),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (TeamLostError("nobody answers."), ""),  # this member has no reason of its own
    ],
)
def test_who_fails_leaves_its_reason(error: BaseException, why: str) -> None:
    team = Recorded()
    with pytest.raises(type(error)), team.leaving_on_error():
        raise error
    assert team.left == [why]
