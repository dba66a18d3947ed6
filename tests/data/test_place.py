from __future__ import annotations

from typing import Any

import pytest
import torch

from moka.data.place import ORDER, TRANSFORM, CursorState, Share, first_state, generator


def test_first_state() -> None:
    torch.manual_seed(0)
    skips = [first_state(rand_skip=5, is_random=False) for _ in range(50)]
    assert {state.records_read for state in skips} == {0, 1, 2, 3, 4}
    assert {state.seed for state in skips} == {None}
    assert first_state(is_random=True) != first_state(is_random=True)


def test_random_numbers_belong_to_a_place() -> None:
    def draw(*place: Any) -> float:
        return generator(*place).random()

    assert draw(5, TRANSFORM, 3) == draw(5, TRANSFORM, 3)
    others = [(5, TRANSFORM, 4), (5, ORDER, 3), (6, TRANSFORM, 3), (2**62 + 5, TRANSFORM, 2**40)]
    assert len({draw(5, TRANSFORM, 3), *(draw(*place) for place in others)}) == 5


def test_a_state_moves_and_gets_a_seed() -> None:
    assert CursorState(5, 7).moved(-2) == CursorState(3, 7)
    assert CursorState(5).seeded(7) == CursorState(5, 7)
    assert CursorState(5, 7).seeded(8) == CursorState(5, 7)


@pytest.mark.parametrize(
    ("read", "begin"), [(11, CursorState(5, 7)), (6, CursorState(0, 7)), (5, None), (0, None)]
)
def test_where_the_last_batch_began(read: int, begin: CursorState | None) -> None:
    """Two processes that read batches of 3 take 6 records at a time."""
    assert Share(1, 2).last_batch(CursorState(read, 7), 3) == begin


@pytest.mark.parametrize("whole_batches", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_round_is_shared_without_gaps(size: int, whole_batches: bool) -> None:
    of_all = list(range(4 * size))
    parts = [of_all[Share(rank, size, whole_batches).of_round(4)] for rank in range(size)]
    assert [len(part) for part in parts] == [4] * size
    joined = [record for part in parts for record in part]
    assert sorted(joined) == of_all
    if whole_batches:
        assert joined == of_all


def test_numbers_of_a_round_do_not_depend_on_who_shares_it() -> None:
    begin = CursorState(24, 7)
    assert Share().drawn_for(begin, 12)[:2] == (24, 12)
    for size in (2, 3, 4):
        for rank in range(size):
            assert Share(rank, size).drawn_for(begin, 12 // size)[:2] == (24, 12)
    whole = Share(1, 2, whole_batches=True)
    assert whole.drawn_for(begin, 6) == (30, 6, slice(None))  # as one process draws at that place
