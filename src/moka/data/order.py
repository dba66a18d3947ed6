"""The order in which examples come, over all epochs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from moka.data.place import ORDER, generator

# Arranges a random order of indices anew.
Arrange = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.int64]]


def example_indices(
    count: int,
    start: int,
    step: int = 1,
    *,
    shuffle: bool,
    seed: int | None,
    arrange: Arrange | None = None,
) -> Iterator[int]:
    """Indices of `count` examples from place `start` on, epoch after epoch, without end.

    Args:
        step: only every `step`-th.
        shuffle: a new order in each epoch, by the seed; else 0, 1, ...
        arrange: what is done to the new order of each epoch; None: nothing.
    """
    first, at = divmod(start, count)
    for epoch in itertools.count(first):
        if shuffle:
            rng = generator(seed, ORDER, epoch)
            order = rng.permutation(count)
            yield from map(int, (arrange(order, rng) if arrange else order)[at::step])
        else:
            yield from range(at, count, step)
        at = (at - count) % step


def in_groups(
    order: NDArray[np.int64], rng: np.random.Generator, *, size: int
) -> NDArray[np.int64]:
    """An order in which every `size` neighbors stay together; their number divides that of the
    examples."""
    return (order[order % size == 0, None] + np.arange(size)).reshape(-1)


def by_shape(
    order: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    is_tall: NDArray[np.bool_],
    group: int | None = None,
) -> NDArray[np.int64]:
    """An order that keeps two kinds of examples apart; chance says which comes first.

    Args:
        is_tall: the kind of each example.
        group: how many of one kind come at a time, in turn, until there are no more of one; None:
            all.
    """
    kinds = [order[is_tall[order]], order[~is_tall[order]]]
    if rng.random() < 0.5:
        kinds.reverse()
    if group is None:
        return np.concatenate(kinds)
    taken, parts = [0, 0], []
    turn = 0
    while taken[0] < len(kinds[0]) and taken[1] < len(kinds[1]):
        parts.append(kinds[turn][taken[turn] : taken[turn] + group])
        taken[turn] += len(parts[-1])
        turn = 1 - turn
    return np.concatenate([*parts, *(k[n:] for k, n in zip(kinds, taken, strict=True))])
