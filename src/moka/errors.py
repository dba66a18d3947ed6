"""What can go wrong, as one small family of exceptions.

Every message is a sentence a user can act on: where (file, layer), what was found, what was
expected, what to do. The code that notices a fault raises the local fact; callers that know more
add the place once with `at`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Self

_LONGEST_NAME = 200  # that somebody has typed
INTERRUPTED = 130  # the exit code after SIGINT, as a shell calls it


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
        text = f"{text} {self.advice}" if self.advice else text
        return text.replace("\0", r"\0")


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
    """The known name that `name` is most likely a slip of (case does not count), or None.

    One letter in four may be wrong, missing or too many, or one of the two begins with the other.
    """
    wanted = name.lower()
    if len(wanted) > _LONGEST_NAME:
        return None
    known = list(known)
    allowed = max(1, len(wanted) // 4) if len(wanted) > 2 else 0
    alike = (k for k in known if abs(len(k) - len(wanted)) <= allowed)
    slips = {k: _edits(wanted, k.lower()) for k in alike}
    found = min(slips, key=slips.__getitem__, default=None)
    if found is not None and slips[found] <= allowed:
        return found
    longer = (k for k in known if min(len(k), len(wanted)) >= 4)
    return next(
        (k for k in longer if wanted.startswith(k.lower()) or k.lower().startswith(wanted)), None
    )


def _edits(a: str, b: str) -> int:
    """How many letters to change, drop, add or swap with the next until `a` is `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a):
        above, row = row, [i + 1]
        for j, other in enumerate(b):
            edits = min(above[j + 1] + 1, row[j] + 1, above[j] + (letter != other))
            if i and j and letter == b[j - 1] and a[i - 1] == other:
                edits = min(edits, before[j - 1] + 1)
            row.append(edits)
        before = above
    return row[-1]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`Did you mean "..."?` for the nearest known name, or None."""
    found = nearest(name, known)
    return f'Did you mean "{found}"?' if found else None
