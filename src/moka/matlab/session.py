"""What the handles of a MATLAB or Octave session stand for."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

from moka.blob import Blob
from moka.engine.layerwise import Layerwise
from moka.errors import UsageError
from moka.matlab.values import Handles
from moka.solver.solver import Solver

T = TypeVar("T")


class NumberedLayer(NamedTuple):
    """A layer of a net, by its number."""

    engine: Layerwise
    number: int


_NAMES = {Layerwise: "net", Solver: "solver", NumberedLayer: "layer", Blob: "blob"}


class _Entry(NamedTuple):
    value: Any
    owner: Hashable


class HandleTable:
    """All objects that a program has handles of.

    A handle is a number and the session's key. `reset` frees all objects and changes the key, so
    that older handles are known as such.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._pointers: dict[Hashable, int] = {}
        self._count = 0
        self.init_key = _new_key()

    def reset(self) -> None:
        """Free all nets and solvers."""
        for entry in list(self._entries.values()):
            _close(entry.value)
        self._entries.clear()
        self._pointers.clear()
        self.init_key = _new_key()

    def handles(self, values: Iterable[Any], owner: object = None) -> Handles:
        """Handles of objects; an object always has the same one.

        Args:
            owner: with whom the objects are freed; None: each on its own.
        """
        return Handles(tuple(self._pointer(v, owner) for v in values), self.init_key)

    def _pointer(self, value: Any, owner: object) -> int:
        key = (id(value.engine), value.number) if isinstance(value, NumberedLayer) else id(value)
        if key not in self._pointers:
            self._count += 1
            self._pointers[key] = self._count
            self._entries[self._count] = _Entry(value, id(value if owner is None else owner))
        return self._pointers[key]

    def find(self, handles: Handles, wanted: type[T]) -> T:
        """The object that a handle stands for.

        Raises:
            UsageError: an older session's handle, or one of another kind of object.
        """
        name = _NAMES[wanted]
        if len(handles.pointers) != 1:
            raise UsageError(f"one {name} handle is wanted, got {len(handles.pointers)}.")
        entry = self._entries.get(handles.pointers[0])
        if handles.init_key != self.init_key or entry is None:
            raise UsageError(
                f"this {name} is gone: it was deleted, or caffe.reset_all or a new Python process"
                " has freed it.",
                advice="Make the net or solver anew.",
            )
        if not isinstance(entry.value, wanted):
            raise UsageError(
                f"a {name} handle is wanted, got that of a {_NAMES[type(entry.value)]}."
            )
        return entry.value

    def delete(self, value: object) -> None:
        """Free an object and what it owns; a solver's net stays until its solver goes."""
        owner = id(value)
        if self._entries[self._pointers[owner]].owner != owner:
            return
        _close(value)
        gone = {pointer for pointer, entry in self._entries.items() if entry.owner == owner}
        self._pointers = {k: p for k, p in self._pointers.items() if p not in gone}
        for pointer in gone:
            del self._entries[pointer]


def _close(value: object) -> None:
    if isinstance(value, Layerwise):
        value.net.close()
    elif isinstance(value, Solver):
        value.close()


def _new_key() -> float:
    """A number that no other session has, of no more digits than MATLAB and Octave write."""
    return float(random.SystemRandom().randrange(1, 10**14))
