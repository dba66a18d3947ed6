"""Places in a data set: where a stream stands, which part a process reads, and random numbers.

Everything random about data (skipping, order, crops, mirrors) is a function of one seed and of the
place in the data. So a position and a seed are all that a run needs to continue exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch

TRANSFORM, ORDER, WINDOWS, ITEMS, BATCHES = range(5)  # purposes of random numbers, see `generator`


@dataclass(frozen=True)
class CursorState:
    """Where a stream of batches stands: enough for a resumed run to continue with the next record.

    Attributes:
        records_read: since the beginning, over all epochs, skipped ones included.
        seed: of everything random about the data; None: nothing is random.
    """

    records_read: int = 0
    seed: int | None = None

    def moved(self, records: int) -> Self:
        """The state after some more records; negative: that many records earlier."""
        return replace(self, records_read=self.records_read + records)

    def seeded(self, seed: int | None) -> Self:
        """This state, with `seed` if it has none."""
        return replace(self, seed=seed) if self.seed is None else self


class Share(NamedTuple):
    """The records that one of several processes reads.

    In a round all processes together read `size` batches. In training each reads the records number
    `rank`, `rank + size` ... of the round, so that a round is the same data however many processes
    read it. With `whole_batches` each reads the batch number `rank` of the round.
    """

    rank: int = 0
    size: int = 1  # number of processes
    whole_batches: bool = False

    def first(self, batch_size: int) -> int:
        """Which record of a round is the first of this process."""
        return self.rank * batch_size if self.whole_batches else self.rank

    @property
    def step(self) -> int:
        """From one record of a batch to the next."""
        return 1 if self.whole_batches else self.size

    def of_round(self, batch_size: int) -> slice:
        """Which records of a round this process reads."""
        first = self.first(batch_size)
        return slice(first, first + self.step * (batch_size - 1) + 1, self.step)

    def drawn_for(self, begin: CursorState, batch_size: int) -> tuple[int, int, slice]:
        """Random numbers for a batch: they belong to a place, are drawn for so many records, and
        this process takes a part of them.

        In training they are drawn for the whole round, and so do not depend on how many processes
        share it, if its images have one size.
        """
        if self.whole_batches:
            return begin.records_read + self.first(batch_size), batch_size, slice(None)
        stride = self.stride(batch_size)
        return begin.records_read, stride, self.of_round(batch_size)

    def stride(self, batch_size: int) -> int:
        """Number of records that all processes together read for one batch each."""
        return batch_size * self.size

    def last_batch(self, after: CursorState, batch_size: int) -> CursorState | None:
        """Where the batch before a state began; None if there was no batch yet."""
        begin = after.moved(-self.stride(batch_size))
        return begin if begin.records_read >= 0 else None


EVERYTHING = Share()


def first_state(*, rand_skip: int = 0, is_random: bool) -> CursorState:
    """Where a new run begins: after a random number of records below `rand_skip`.

    The number, and the seed if the data `is_random`, come from torch's generator, so `random_seed`
    decides them.
    """
    skipped = int(torch.randint(rand_skip, (), device="cpu")) if rand_skip else 0
    return CursorState(skipped, draw_seed() if is_random else None)


def draw_seed() -> int:
    """A seed for random data, from torch's generator."""
    return int(torch.randint(2**63 - 1, (), device="cpu"))


def generator(seed: int | None, purpose: int, place: int) -> np.random.Generator:
    """A random generator that belongs to a place in the data: made again, it repeats its numbers.

    Args:
        seed: of the run; None where nothing is random.
        purpose: one of the above; the numbers of each are independent of the others.
        place: number of the epoch, or of the records before.
    """
    return np.random.default_rng(np.random.SeedSequence(seed or 0, spawn_key=(purpose, place)))
