"""What can go wrong, as one small family of exceptions.

Every message is a sentence a user can act on: where (file, layer), what was found, what was
expected, what to do. The code that notices a fault raises the local fact; callers that know more
add the place once with `at`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Self


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
    """The known name most like `name`, whatever the case, or None if none is near.

    Near is a name that differs by one typing error, a long name by one in four letters; or else the
    shortest name that begins with `name`, if that has four letters or more.
    """
    by_lower = {k.lower(): k for k in known}
    wanted = name.lower()
    scores = {k: typing_errors(wanted, k) for k in by_lower}
    near = [k for k, count in scores.items() if count <= max(len(k) // 4, len(k) > 2)]
    if near:
        return by_lower[min(near, key=scores.__getitem__)]
    longer = [k for k in by_lower if len(wanted) >= 4 and k.startswith(wanted)]
    return by_lower[min(longer, key=len)] if longer else None


def typing_errors(a: str, b: str) -> int:
    """How many letters to insert, remove, replace, or swap with their neighbors make `b` of `a`
    (the optimal string alignment distance)."""
    before, last = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            count = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                count = min(count, before[j - 2] + 1)
            row.append(count)
        before, last = last, row
    return last[-1]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`Did you mean "..."?` for the nearest known name, or None."""
    found = nearest(name, known)
    return f'Did you mean "{found}"?' if found else None
