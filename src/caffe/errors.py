"""The exceptions that pycaffe raises, in place of Moka's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moka.errors import MokaError, UsageError


@contextmanager
def raised_as(kind: type[Exception], caught: type[MokaError] = UsageError) -> Iterator[None]:
    """Convert Moka's errors about the caller's mistakes to the exceptions that pycaffe raises."""
    try:
        yield
    except caught as error:
        raise kind(str(error)) from None
