"""Records in an LMDB database."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import ClassVar, Self
from weakref import WeakValueDictionary

from moka.errors import DataError

COMMIT_EVERY = 1000  # records a transaction
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

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        lmdb = _lmdb()
        try:
            self._environment = _Environment.of(path)
        except lmdb.Error as error:
            raise DataError(f"this is not an LMDB database ({error}).", file=path) from None

    def __len__(self) -> int:
        return int(self._environment.handle.stat()["entries"])

    def read(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        with self._environment.handle.begin() as transaction, transaction.cursor() as cursor:
            here = cursor.first()
            for _ in range(start):
                here = here and cursor.next()
            if here:
                yield from cursor.iternext()


class LmdbWriter:
    """Makes an LMDB database that has its name only once it is complete.

    Used in a `with` block: records are put, and at the end the folder gets its name; if the block
    fails, nothing is left. An existing target is refused.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.exists():
            raise DataError(
                "File exists: a database is not written over another.",
                file=path,
                advice="Remove it first, or choose another name.",
            )
        self._aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._pending: list[tuple[bytes, bytes]] = []

    def __enter__(self) -> Self:
        lmdb = _lmdb()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(self._aside), map_size=MAP_SIZE, sync=False)
        except (OSError, lmdb.Error) as error:
            raise self._cannot_write(error) from None
        return self

    def _cannot_write(self, error: Exception) -> DataError:
        return DataError(f"the database cannot be written: {error}.", file=self.path)

    def put(self, key: bytes, value: bytes) -> None:
        """Add one record; a key that is there already is replaced."""
        self._pending.append((key, value))
        if len(self._pending) >= COMMIT_EVERY:
            self._commit()

    def _commit(self) -> None:
        try:
            with self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(self._pending)
        except _lmdb().Error as error:
            raise self._cannot_write(error) from None
        self._pending.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        complete = False
        try:
            if error is None:
                self._commit()
                self._env.sync(True)
                complete = True
        finally:
            self._env.close()
            if complete:
                with contextlib.suppress(FileNotFoundError):
                    (self._aside / "lock.mdb").unlink()
                os.replace(self._aside, self.path)
            else:
                shutil.rmtree(self._aside, ignore_errors=True)
