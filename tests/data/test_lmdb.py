from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from moka.data import lmdb as lmdb_module
from moka.data.lmdb import LmdbStore, LmdbWriter
from moka.data.writer import COMMIT_EVERY
from moka.errors import DataError

Records = list[tuple[bytes, bytes]]


def write(path: Path, records: Iterable[tuple[bytes, bytes]]) -> Path:
    with LmdbWriter(path) as writer:
        for key, value in records:
            writer.put(key, value)
    return path


def numbered(count: int) -> Records:
    return [(b"%06d" % i, b"value %d" % i) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, COMMIT_EVERY, COMMIT_EVERY + 3])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    store = LmdbStore(write(tmp_path / "db", numbered(count)))
    assert len(store) == count
    assert list(store.read()) == numbered(count)


def test_records_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    records = [(b"b", b"2"), (b"a", b"1"), (b"aa", b"11"), (b"B", b"0")]
    store = LmdbStore(write(tmp_path / "db", records))
    assert list(store.read()) == sorted(records)


def test_a_later_value_replaces_an_earlier_one(tmp_path: Path) -> None:
    store = LmdbStore(write(tmp_path / "db", [(b"k", b"first"), (b"k", b"second")]))
    assert list(store.read()) == [(b"k", b"second")]


@pytest.mark.parametrize("start", [0, 1, 4, 5, 99])
@pytest.mark.parametrize("step", [1, 2, 3, 9])
def test_reading_from_a_number_on(tmp_path: Path, start: int, step: int) -> None:
    store = LmdbStore(write(tmp_path / "db", numbered(5)))
    assert list(store.read(start, step)) == numbered(5)[start::step]


def test_one_database_opened_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "db", numbered(5))
    first, second = LmdbStore(path), LmdbStore(os.path.relpath(path))
    one, other = first.read(), second.read(2)
    pairs = list(zip(one, other, strict=False))
    assert pairs == list(zip(numbered(5), numbered(5)[2:], strict=False))
    del first, one
    gc.collect()
    assert len(second) == 5
    assert list(other) == []


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9])
def test_a_truncated_database_is_refused(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "db", [(b"%06d" % i, bytes(9000)) for i in range(100)])
    os.truncate(path / "data.mdb", int(kept * os.path.getsize(path / "data.mdb")))
    with pytest.raises(DataError, match=r"db: this LMDB database is truncated: \d+ bytes"):
        LmdbStore(path)


def test_a_database_is_closed_with_its_last_store(tmp_path: Path) -> None:
    path = write(tmp_path / "db", numbered(1))
    store = LmdbStore(path)
    assert len(store) == 1
    del store
    gc.collect()
    (path / "data.mdb").unlink()
    path.rmdir()
    write(path, numbered(2))
    assert len(LmdbStore(path)) == 2


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "db", numbered(3))
    assert os.listdir(path) == ["data.mdb"]
    before = (path / "data.mdb").read_bytes()
    list(LmdbStore(path).read())
    assert os.listdir(path) == ["data.mdb"]
    assert (path / "data.mdb").read_bytes() == before


def test_a_data_file_by_its_own_name(tmp_path: Path) -> None:
    path = write(tmp_path / "db", numbered(3))
    assert list(LmdbStore(path / "data.mdb").read()) == numbered(3)


def test_a_database_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_module, "FIRST_SIZE", 1 << 16)
    records = [(b"%04d" % i, bytes([i % 256]) * 3000) for i in range(2500)]
    with LmdbWriter(tmp_path / "db") as writer:
        for record in records:
            writer.put(*record)
    assert list(LmdbStore(tmp_path / "db").read()) == records


def test_a_file_is_as_large_as_what_is_in_it(tmp_path: Path) -> None:
    """Windows makes it as large as it might become."""
    with LmdbWriter(tmp_path / "db") as writer:
        writer.put(b"a", b"b")
        os.truncate(writer._file, 1 << 24)
    assert (tmp_path / "db" / "data.mdb").stat().st_size < 1 << 20
    assert list(LmdbStore(tmp_path / "db").read()) == [(b"a", b"b")]


@pytest.mark.parametrize("count", [0, COMMIT_EVERY])
def test_a_record_that_cannot_be_written_leaves_nothing(tmp_path: Path, count: int) -> None:
    """The last records are written at the end of the block, the others on the way."""
    no_key = (b"", b"a key has at least one byte")
    with pytest.raises(DataError, match=r"db: the database cannot be written: .*MDB_BAD_VALSIZE"):
        write(tmp_path / "db", [no_key, *numbered(count)])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"junk" * 5000, "does not begin as one"),
        (b"", "is empty"),
        (b"a list\n", "7 bytes are less"),
    ],
)
def test_junk_is_no_database(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(DataError, match=f"not an LMDB database.*{says}"):
        LmdbStore(tmp_path)
