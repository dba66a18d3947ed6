"""Records in a LevelDB database."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from moka.data.leveldb_files import (
    KeyVersion,
    Table,
    Version,
    in_order,
    read_entries,
    read_manifest,
    read_sorted_table,
)
from moka.data.writer import Records, RecordWriter
from moka.errors import DataError

BLOCK_SIZE = 65536  # bytes of records that are compressed together, as in Caffe
WRITE_BUFFER = 1 << 26  # bytes of records in memory before they become a table


class LevelDbStore:
    """A LevelDB database opened for reading.

    LevelDB itself locks a database for one process and rewrites files when it opens it. Here its
    files are read as they are: several may read at once, and nothing is written.

    Raises:
        DataError: not a LevelDB database, or broken.
    """

    backend = "leveldb"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._folder = Path(path)
        version = read_manifest(self._folder / self._current())
        self._recent = sorted(
            chain.from_iterable(read_entries(log) for log in self._logs(version)), key=in_order
        )
        self._runs = _sorted_runs(version.tables)

    def _current(self) -> str:
        """Name of the manifest."""
        try:
            name = (self._folder / "CURRENT").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"this is not a LevelDB database ({error}).", file=self.path) from None
        if not name or not name.isprintable():
            fact = "is empty" if not name else f"holds {name!r}"
            raise DataError(f"this is not a LevelDB database (CURRENT {fact}).", file=self.path)
        return name

    def _logs(self, version: Version) -> list[Path]:
        """The logs whose records have not been written to a table yet."""
        return [
            file
            for file in self._folder.glob("*.log")
            if file.stem.isdigit()
            and (int(file.stem) >= version.log_number or int(file.stem) == version.prev_log_number)
        ]

    def _read_run(self, run: list[Table]) -> Iterator[KeyVersion]:
        for table in run:
            yield from read_sorted_table(self._table_file(table.number))

    def _table_file(self, number: int) -> Path:
        """Tables are called .ldb; older releases of LevelDB say .sst."""
        old = self._folder / f"{number:06d}.sst"
        return old if old.exists() else old.with_suffix(".ldb")

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self.read())

    def __len__(self) -> int:
        """How many records there are. The first time, all are read: a database has no count."""
        return self._count

    def read(self, start: int = 0, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
        tables = [self._read_run(run) for run in self._runs]
        merged = heapq.merge(self._recent, *tables, key=in_order)
        return islice(_newest(merged), start, None, step)

    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        raise DataError(
            "records of a LevelDB database cannot be picked: they are read in order only.",
            file=self.path,
            advice="Leave out shuffle, or make an LMDB database of it.",
        )


def _sorted_runs(tables: list[Table]) -> list[list[Table]]:
    """Groups of tables whose entries are sorted across the group: tables of one level do not
    overlap, except in level 0."""
    runs: dict[tuple[int, int], list[Table]] = {}
    for table in sorted(tables, key=attrgetter("smallest")):
        key = (table.level, table.number if table.level == 0 else 0)
        runs.setdefault(key, []).append(table)
    return list(runs.values())


def _newest(entries: Iterator[KeyVersion]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of sorted entries; replaced and deleted ones are left out."""
    for key, versions in groupby(entries, key=attrgetter("key")):
        value = next(versions).value
        if value is not None:
            yield key, value


def _plyvel() -> ModuleType:
    try:
        import plyvel
    except ImportError:
        raise DataError(
            "writing LevelDB needs the package plyvel.",
            advice="pip install plyvel, or write an LMDB database.",
        ) from None
    return plyvel


class LevelDbWriter(RecordWriter):
    """Makes a LevelDB database. Needs the package plyvel; see RecordWriter."""

    refusal = "Failed to open leveldb {}"
    _database: Any

    def error_types(self) -> tuple[type[Exception], ...]:
        return OSError, _plyvel().Error

    def open(self, folder: Path) -> None:
        self._database = _plyvel().DB(
            str(folder),
            create_if_missing=True,
            error_if_exists=True,
            block_size=BLOCK_SIZE,
            write_buffer_size=WRITE_BUFFER,
        )

    def write(self, records: Records) -> None:
        with self._database.write_batch() as batch:
            for key, value in records:
                batch.put(key, value)

    def sync(self) -> None:
        with self._database.write_batch(sync=True):
            pass

    def close(self) -> None:
        self._database.close()
