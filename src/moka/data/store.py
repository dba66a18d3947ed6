"""Databases of records behind one narrow interface: a new kind of database is one class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from moka.data.leveldb import LevelDbStore, LevelDbWriter
from moka.data.lmdb import LmdbStore, LmdbWriter
from moka.data.writer import RecordWriter
from moka.errors import DataError
from moka.files import local_path
from moka.types import PathLike


class Store(Protocol):
    """Records (key, value) in the order of their keys.

    Attributes:
        path: the database's folder.
        backend: which kind it is, as Caffe's tools and log call it.
    """

    path: PathLike
    backend: str

    def __len__(self) -> int:
        """How many records there are; counting them may mean reading all."""

    def read(self, start: int = 0, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of every `step`-th record from number `start` on, once through."""

    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of the records of these numbers, in this order.

        Raises:
            DataError: this kind of database can only be read in order.
        """


def is_database(folder: PathLike) -> bool:
    """Whether a folder looks like a database of either kind."""
    return any(os.path.exists(os.path.join(folder, name)) for name in ("CURRENT", "data.mdb"))


def open_store(path: PathLike, backend: str = "LMDB") -> Store:
    """Open a database for reading. Its files tell which kind it is.

    Args:
        path: the database's folder.
        backend: what the net says, for the message when the folder shows nothing.

    Raises:
        DataError: missing, not a database, broken, or empty.
    """
    if not os.path.exists(path):
        path = local_path(path)
    if not os.path.exists(path):
        raise DataError(
            "No such file or directory.",
            file=path,
            advice=f"Make the {backend} database first, or correct its name; relative names"
            f" start at the current directory, {os.getcwd()}.",
        )
    store: Store
    if os.path.exists(os.path.join(path, "CURRENT")):
        store = LevelDbStore(path)
    elif os.path.isdir(path) and not is_database(path):
        raise DataError(
            "this is not a database: there is neither data.mdb (LMDB) nor CURRENT (LevelDB) in it.",
            file=path,
        )
    else:
        store = LmdbStore(path)
    if next(store.read(), None) is None:
        raise DataError("the database is empty.", file=path, advice="Make it again.")
    return store


def known_count(store: Store) -> int | None:
    """The number of records, or None if only reading them all would tell."""
    return len(store) if store.backend == "lmdb" else None


WRITERS: dict[str, type[RecordWriter]] = {"lmdb": LmdbWriter, "leveldb": LevelDbWriter}


def make_store(path: PathLike, backend: str = "lmdb") -> RecordWriter:
    """A writer for a new database of one kind.

    Args:
        backend: "lmdb" or "leveldb", in any case.

    Raises:
        DataError: another backend; the target exists.
    """
    check_backend(backend)
    return WRITERS[backend.lower()](path)


def check_backend(name: str) -> None:
    """Raises DataError if there is no such kind of database."""
    if name.lower() not in WRITERS:
        raise DataError(f"Unknown db backend {name}.", advice="Known are lmdb and leveldb.")
