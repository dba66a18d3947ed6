"""Databases of records behind one narrow interface, so that a new kind of store is one class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

from moka.data.lmdb import LmdbStore
from moka.errors import DataError

PathLike = str | os.PathLike[str]


class Store(Protocol):
    """Records (key, value) in the order of their keys."""

    path: PathLike

    def __len__(self) -> int:
        """How many records there are."""

    def read(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of each record from number `start` on, once through."""


def open_store(path: PathLike, backend: str = "LMDB") -> Store:
    """Open a database for reading; which kind it is shows from its files.

    Args:
        path: the database's folder.
        backend: what the net says, for the message when the folder shows nothing.

    Raises:
        DataError: missing, not a database, or of a kind that cannot be read; empty.
    """
    if not os.path.exists(path):
        raise DataError(
            "No such file or directory.",
            file=path,
            advice=f"Make the {backend} database first, or correct `source`; relative names"
            f" start at the current directory, {os.getcwd()}.",
        )
    if os.path.exists(os.path.join(path, "CURRENT")):
        raise DataError(
            "this is a LevelDB database, which cannot be read.",
            file=path,
            advice="Make an LMDB database of the same records and set `backend: LMDB`.",
        )
    store = LmdbStore(path)
    if not len(store):
        raise DataError("the database is empty.", file=path, advice="Make it again.")
    return store
