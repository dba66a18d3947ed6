"""The exceptions that pycaffe raises, in place of Moka's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moka.errors import MokaError, NetError, UsageError


class NoLayerError(NetError, ValueError):
    """A name that is no layer's; pycaffe raises ValueError."""


class NoBlobError(NetError, KeyError):
    """A name that is no blob's; pycaffe raises KeyError."""


@contextmanager
def raised_as(kind: type[Exception], caught: type[MokaError] = UsageError) -> Iterator[None]:
    """Convert Moka's errors about the caller's mistakes to the exceptions that pycaffe raises."""
    try:
        yield
    except caught as error:
        raise kind(str(error)) from None
