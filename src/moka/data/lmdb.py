"""Records in an LMDB database."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from moka.data.lmdb_file import LmdbFile
from moka.data.writer import Records, RecordWriter
from moka.errors import DataError
from moka.types import PathLike

FIRST_SIZE = 1 << 26  # bytes of a database that is written; doubled whenever it is full


def _lmdb() -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise DataError("writing LMDB needs the package lmdb.", advice="pip install lmdb") from None
    return lmdb


class LmdbStore:
    """An LMDB database opened for reading; see `moka.data.lmdb_file`.

    Raises:
        DataError: not an LMDB database, truncated, or (when it is read) damaged.
    """

    backend = "lmdb"

    def __init__(self, path: PathLike) -> None:
        self.path = path
        data = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
        with self._named_errors():
            self._file = LmdbFile(data)

    def __len__(self) -> int:
        with self._named_errors():
            return self._file.meta().entries

    def read(self, start: int = 0, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
        with self._named_errors():
            yield from self._file.records(start, step)

    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        with self._named_errors():
            yield from self._file.pick(numbers)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Name the database in errors."""
        try:
            yield
        except DataError as error:
            raise error.at(file=self.path) from None


class LmdbWriter(RecordWriter):
    """Makes an LMDB database; see RecordWriter."""

    refusal = "mkdir {} failed"
    _environment: Any
    _file: Path

    def error_types(self) -> tuple[type[Exception], ...]:
        return OSError, _lmdb().Error

    def open(self, folder: Path) -> None:
        # Nobody else knows the folder, and a lock is a mapped file: a full disk ends the process.
        self._file = folder / "data.mdb"
        self._environment = _lmdb().open(str(folder), map_size=FIRST_SIZE, sync=False, lock=False)

    def advice_for(self, text: str) -> str | None:
        if "Cannot allocate memory" in text:
            return (
                "LMDB asks for addresses of the whole database, not for memory: ulimit -v unlimited"
            )
        return None

    def write(self, records: Records) -> None:
        environment = self._environment
        while True:
            try:
                with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti(records)
                return
            except _lmdb().MapFullError:
                environment.set_mapsize(2 * environment.info()["map_size"])

    def sync(self) -> None:
        self._environment.sync(True)

    def close(self) -> None:
        pages = self._environment.info()["last_pgno"] + 1
        size = pages * self._environment.stat()["psize"]
        self._environment.close()
        if os.path.getsize(self._file) > size:  # on Windows it is as large as it might have become
            os.truncate(self._file, size)
