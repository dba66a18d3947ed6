"""A name that is not taken yet."""

from __future__ import annotations

from collections.abc import Container
from itertools import chain, count


def free_name(wanted: str, taken: Container[str], *, first: int = 2, mark: str = "_") -> str:
    """`wanted`, or with a number behind it if it is taken: conv_2, conv_3, ...

    Args:
        taken: the names that are in use.
        first: the lowest number.
        mark: what stands before the number.
    """
    numbered = (f"{wanted}{mark}{number}" for number in count(first))
    return next(name for name in chain([wanted], numbered) if name not in taken)
