"""The order in which examples come, over all epochs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from moka.data.place import ORDER, generator


def example_indices(
    count: int, start: int, step: int = 1, *, shuffle: bool, seed: int | None
) -> Iterator[int]:
    """Indices of `count` examples from place `start` on, epoch after epoch, without end.

    Args:
        step: only every `step`-th.
        shuffle: a new order in each epoch, by the seed; else 0, 1, ...
    """
    first, at = divmod(start, count)
    for epoch in itertools.count(first):
        if shuffle:
            order = generator(seed, ORDER, epoch).permutation(count)[at::step]
            yield from map(int, order)
        else:
            yield from range(at, count, step)
        at = (at - count) % step
