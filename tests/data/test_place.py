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
