"""The numbers that `rand()` of the GNU C library gives: some forks draw fixed numbers with it."""

from __future__ import annotations

from collections.abc import Iterator

DEGREE, SEPARATION, DROPPED = 31, 3, 310  # of its additive feedback generator
MULTIPLIER, MODULUS = 16807, 2**31 - 1  # of the congruence that fills its state


def rand(seed: int) -> Iterator[int]:
    """The numbers from 0 to 2^31 - 1 that follow `srand(seed)`, for a seed from 1 to 2^31 - 2."""
    state = [seed]
    for _ in range(DEGREE - 1):
        state.append(state[-1] * MULTIPLIER % MODULUS)
    place = SEPARATION  # of the oldest value; the next one is written over it
    for drawn in range(-DROPPED, 2**62):
        newest = (state[place] + state[(place - SEPARATION) % DEGREE]) % 2**32
        state[place] = newest
        place = (place + 1) % DEGREE
        if drawn >= 0:
            yield newest >> 1
