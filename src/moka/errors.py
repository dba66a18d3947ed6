"""What can go wrong, as one small family of exceptions.

Every message is a sentence a user can act on: where (file, layer), what was found, what was
expected, what to do. The code that notices a fault raises the local fact; callers that know more
add the place once with `at`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Self

NEAR = 0.75  # the least likeness of two names, from 0 to 1, for one to be suggested


class MokaError(Exception):
    """Base of all errors that a user's input can cause.

    Args:
        message: the fact, as a sentence without its place.
        file: the file it was found in.
        layer: name of the layer it concerns.
        layer_type: type of that layer.
        advice: what to do about it.

    Attributes:
        exit_code: of a command that ends with this error.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        file: str | os.PathLike[str] | None = None,
        layer: str | None = None,
        layer_type: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.layer = layer
        self.layer_type = layer_type
        self.advice = advice

    def at(
        self,
        *,
        file: str | os.PathLike[str] | None = None,
        layer: str | None = None,
        layer_type: str | None = None,
    ) -> Self:
        """Add the place, where it is not known yet; returns the error itself."""
        self.file = self.file or file
        if self.layer is None:
            self.layer, self.layer_type = layer, layer_type
        return self

    def __str__(self) -> str:
        text = self.message
        if self.layer is not None:
            kind = f" ({self.layer_type})" if self.layer_type else ""
            text = f'layer "{self.layer}"{kind}: {text}'
        if self.file:
            text = f"{os.fspath(self.file)}: {text}"
        return f"{text} {self.advice}" if self.advice else text


class SchemaError(MokaError):
    """A prototxt or binary message that cannot be read."""


class NetError(MokaError):
    """A net whose structure, shapes or parameters do not fit together."""


class WeightsError(MokaError):
    """Weights that do not fit the net, or a file that holds none."""


class DataError(MokaError):
    """A data set that is missing, empty or broken; names the record's key where there is one."""


class SolverError(MokaError):
    """A training run that cannot start or cannot go on."""


class UsageError(MokaError):
    """A command line that cannot be understood."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name` (ignoring case), or None if none is near: about every fourth
    character may differ."""
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=NEAR)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`Did you mean "..."?` for the nearest known name, or None."""
    found = nearest(name, known)
    return f'Did you mean "{found}"?' if found else None
