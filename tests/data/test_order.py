from __future__ import annotations

from functools import partial
from itertools import islice

import pytest

from moka.data.order import example_indices, in_groups

COUNT = 6


@pytest.mark.parametrize("start", [0, 2, 5, 6, 13])
@pytest.mark.parametrize("step", [1, 4, 9])
def test_in_order_and_over_again(start: int, step: int) -> None:
    got = list(islice(example_indices(COUNT, start, step, shuffle=False, seed=5), 20))
    assert got == [(start + step * i) % COUNT for i in range(20)]


@pytest.mark.parametrize("start", [0, 4, 6, 13])
def test_shuffled_anew_in_each_epoch(start: int) -> None:
    straight = list(islice(example_indices(COUNT, 0, shuffle=True, seed=5), 10 * COUNT))
    epochs = [tuple(straight[k : k + COUNT]) for k in range(0, 10 * COUNT, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len(set(epochs)) > 5
    later = islice(example_indices(COUNT, start, shuffle=True, seed=5), 10 * COUNT - start)
    assert list(later) == straight[start:]
    every_fourth = islice(example_indices(COUNT, start, 4, shuffle=True, seed=5), 8)
    assert list(every_fourth) == straight[start : start + 32 : 4]
    assert list(islice(example_indices(COUNT, 0, shuffle=True, seed=6), COUNT)) != straight[:COUNT]


def test_numbers_are_pythons_own() -> None:
    """Records made with them can be stored and compared."""
    assert type(next(example_indices(COUNT, 0, shuffle=True, seed=5))) is int


def test_neighbors_that_stay_together() -> None:
    arrange = partial(in_groups, size=3)
    order = example_indices(COUNT, 0, shuffle=True, seed=5, arrange=arrange)
    epochs = [tuple(islice(order, COUNT)) for _ in range(20)]
    assert set(epochs) == {(0, 1, 2, 3, 4, 5), (3, 4, 5, 0, 1, 2)}
