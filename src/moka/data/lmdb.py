"""Records in an LMDB database."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from moka.data.writer import Records, RecordWriter
from moka.errors import DataError

MAP_SIZE = 1 << 40  # bytes of address space; the file only grows as far as it is filled


def _lmdb() -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise DataError("reading LMDB needs the package lmdb.", advice="pip install lmdb") from None
    return lmdb


class _Environment:
    """An open environment. LMDB allows one for each file in a process, so stores share it."""

    _open: ClassVar[WeakValueDictionary[str, _Environment]] = WeakValueDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: str) -> None:
        self.handle = _lmdb().open(
            path, readonly=True, lock=False, subdir=os.path.isdir(path), readahead=True
        )
        self._check_size(path)

    def _check_size(self, path: str) -> None:
        """Raises DataError for a file without room for the pages in use: reading the memory map
        past its end would end the process. (LMDB need not write free pages at the end, so the
        number of its last page says too much.)"""
        stat = self.handle.stat()
        pages = 2 + stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
        expected, found = pages * stat["psize"], os.path.getsize(file)
        if found < expected:
            raise DataError(
                f"this LMDB database is truncated: {found} bytes of at least {expected}.",
                advice="Compare its size or checksum with the original and fetch it again.",
            )

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self.handle.close()

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> _Environment:
        """The environment of a file, opened if it is not open yet."""
        real = os.path.realpath(path)
        with cls._lock:
            found = cls._open.get(real)
            if found is None:
                found = cls._open[real] = cls(real)
        return found


class LmdbStore:
    """An LMDB database opened for reading, without a lock, so that several may read at once."""

    backend = "lmdb"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        lmdb = _lmdb()
        try:
            self._environment = _Environment.of(path)
        except DataError as error:
            raise error.at(file=path) from None
        except lmdb.Error as error:
            raise DataError(f"this is not an LMDB database ({error}).", file=path) from None

    def __len__(self) -> int:
        return int(self._environment.handle.stat()["entries"])

    def read(self, start: int = 0, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
        number = start
        try:
            with self._environment.handle.begin() as transaction, transaction.cursor() as cursor:
                here = cursor.first() and _move(cursor, start)
                while here:
                    if number >= len(self):  # pages that lead back to earlier ones
                        raise self._damaged(number, f"it holds {len(self)} by its own count")
                    yield cursor.item()
                    number += step
                    here = _move(cursor, step)
        except _lmdb().Error as error:
            raise self._damaged(number, str(error)) from None

    def _damaged(self, number: int, fact: str) -> DataError:
        return DataError(
            f"this LMDB database is damaged: record {number}, counted from 0, cannot be read"
            f" ({fact}).",
            file=self.path,
            advice="Compare its size or checksum with the original and fetch it again.",
        )


def _move(cursor: Any, count: int) -> bool:
    """Go `count` records on, without looking at them; whether there is one."""
    return all(cursor.next() for _ in range(count))


class LmdbWriter(RecordWriter):
    """Makes an LMDB database; see RecordWriter."""

    refusal = "mkdir {} failed"
    _environment: Any

    def error_types(self) -> tuple[type[Exception], ...]:
        return OSError, _lmdb().Error

    def open(self, folder: Path) -> None:
        self._environment = _lmdb().open(str(folder), map_size=MAP_SIZE, sync=False)

    def write(self, records: Records) -> None:
        with self._environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(records)

    def sync(self) -> None:
        self._environment.sync(True)

    def close(self) -> None:
        lock = Path(self._environment.path(), "lock.mdb")
        self._environment.close()
        lock.unlink(missing_ok=True)
