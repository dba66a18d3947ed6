"""Databases made by LevelDB itself, through plyvel."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from moka.data.leveldb import LevelDbStore, LevelDbWriter
from moka.errors import DataError

plyvel = pytest.importorskip("plyvel")

Records = list[tuple[bytes, bytes]]


def numbered(count: int) -> Records:
    return [(b"%06d" % i, b"value %d" % i) for i in range(count)]


def write(path: Path, records: Iterable[tuple[bytes, bytes]]) -> Path:
    with LevelDbWriter(path) as writer:
        for key, value in records:
            writer.put(key, value)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix == suffix)


OPTIONS: dict[str, dict[str, Any]] = {
    "few tables": {},
    "many tables": {"write_buffer_size": 1 << 16},
    "not compressed": {"write_buffer_size": 1 << 16, "compression": None},
    "small blocks": {"write_buffer_size": 1 << 16, "block_size": 100},
    "large blocks": {"write_buffer_size": 1 << 18, "block_size": 1 << 16},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("compact", [False, True])
def test_what_leveldb_holds_is_read(tmp_path: Path, options: dict[str, Any], compact: bool) -> None:
    """Keys written, replaced and deleted at random, with the database opened again between."""
    rng = random.Random(3)

    def change(database: Any) -> None:
        for _ in range(400):
            key = b"%d" % rng.randrange(500) * rng.randrange(1, 4)
            if rng.random() < 0.2:
                database.delete(key)
            else:
                size = rng.choice([0, 5, 300, 2000])
                database.put(key, rng.randbytes(size // 2) + b"a" * size)

    for _ in range(4):
        with plyvel.DB(str(tmp_path / "db"), create_if_missing=True, **options) as database:
            change(database)
            if compact:
                database.compact_range()
                change(database)
            wanted = list(database)
    store = LevelDbStore(tmp_path / "db")
    assert list(store.read()) == wanted
    assert len(store) == len(wanted)
    assert files(tmp_path / "db", ".ldb")
    assert sum(log.stat().st_size for log in files(tmp_path / "db", ".log"))


@pytest.mark.parametrize("size", [30_000, 32_768 - 7 - 12 - 7, 32_768, 100_000])
def test_records_that_cross_the_blocks_of_a_log(tmp_path: Path, size: int) -> None:
    records = [(b"%d" % i, random.Random(i).randbytes(size)) for i in range(5)]
    with plyvel.DB(str(tmp_path / "db"), create_if_missing=True) as database:
        for key, value in records:
            database.put(key, value)
    assert list(LevelDbStore(tmp_path / "db").read()) == records


def in_a_table(path: Path, records: Records) -> Path:
    """A database whose records are in one table."""
    with plyvel.DB(str(write(path, records))) as database:
        database.compact_range()
    assert len(files(path, ".ldb")) == 1
    return path


def test_a_table_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    path = in_a_table(tmp_path / "db", [(b"%03d" % i, os.urandom(5000)) for i in range(100)])
    records = LevelDbStore(path).read()
    next(records)
    for table in (*files(path, ".ldb"), *files(path, ".sst")):
        os.truncate(table, 4096)
    with pytest.raises(DataError, match="somebody has cut the file, or written another over it"):
        list(records)


def test_tables_by_their_old_name(tmp_path: Path) -> None:
    path = in_a_table(tmp_path / "db", numbered(5))
    for file in files(path, ".ldb"):
        file.rename(file.with_suffix(".sst"))
    assert list(LevelDbStore(path).read()) == numbered(5)


@pytest.mark.parametrize("start", [0, 1, 4, 5, 99])
@pytest.mark.parametrize("step", [1, 2, 9])
@pytest.mark.parametrize("make", [write, in_a_table])
def test_reading_from_a_number_on(tmp_path: Path, start: int, step: int, make: Any) -> None:
    store = LevelDbStore(make(tmp_path / "db", numbered(5)))
    assert list(store.read(start, step)) == numbered(5)[start::step]


def test_records_are_not_picked(tmp_path: Path) -> None:
    store = LevelDbStore(write(tmp_path / "db", numbered(3)))
    with pytest.raises(DataError, match="records of a LevelDB database cannot be picked"):
        store.pick([1])


@pytest.mark.parametrize("make", [write, in_a_table])
def test_reading_writes_nothing(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "db", numbered(5))
    before = contents(path)
    path.chmod(0o500)
    store = LevelDbStore(path)
    assert list(store.read()) == numbered(5)
    path.chmod(0o700)
    assert contents(path) == before


def test_several_may_read_at_once(tmp_path: Path) -> None:
    path = in_a_table(tmp_path / "db", numbered(5))
    with plyvel.DB(str(path)):  # which has locked it
        one, other = LevelDbStore(path).read(), LevelDbStore(os.path.relpath(path)).read(2)
        assert list(zip(one, other, strict=False)) == list(
            zip(numbered(5), numbered(5)[2:], strict=False)
        )


def test_caffe_can_read_what_is_written(tmp_path: Path) -> None:
    records = [(b"%d" % i, os.urandom(100)) for i in range(3000)]
    with plyvel.DB(str(write(tmp_path / "db", records))) as database:
        assert list(database) == sorted(records)


def test_a_log_whose_end_is_missing(tmp_path: Path) -> None:
    """Its writer was interrupted: LevelDB drops the last record, too."""
    with plyvel.DB(str(tmp_path / "db"), create_if_missing=True) as database:
        for key, value in numbered(5):
            database.put(key, value)
    (log,) = files(tmp_path / "db", ".log")
    log.write_bytes(log.read_bytes()[:-3])
    assert list(LevelDbStore(tmp_path / "db").read()) == numbered(4)


def test_a_log_with_space_in_reserve(tmp_path: Path) -> None:
    path = write(tmp_path / "db", numbered(5))
    (log,) = files(path, ".log")
    log.write_bytes(log.read_bytes() + bytes(100_000))
    assert list(LevelDbStore(path).read()) == numbered(5)


def test_logs_that_are_in_tables_already(tmp_path: Path) -> None:
    path = in_a_table(tmp_path / "db", numbered(5))
    other = write(tmp_path / "other", [(b"old", b"")])
    (log,) = files(other, ".log")
    log.rename(path / "000001.log")
    assert list(LevelDbStore(path).read()) == numbered(5)


def test_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is not a LevelDB database"):
        LevelDbStore(tmp_path)


def test_a_manifest_that_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "db", numbered(1))
    (path / (path / "CURRENT").read_text().strip()).unlink()
    with pytest.raises(DataError, match=r"MANIFEST-\d+: cannot be read: No such file"):
        LevelDbStore(path)


@pytest.mark.parametrize("size", [0, 5, 20])
def test_a_manifest_that_was_cut_off(tmp_path: Path, size: int) -> None:
    path = in_a_table(tmp_path / "db", numbered(3))
    manifest = path / (path / "CURRENT").read_text().strip()
    manifest.write_bytes(manifest.read_bytes()[:size])
    with pytest.raises(DataError, match=r"MANIFEST-\d+: this LevelDB file is broken: .* cut off"):
        LevelDbStore(path)


def test_no_manifest_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "db", numbered(1))
    (path / "CURRENT").write_text("\n")
    with pytest.raises(DataError, match=r"db: this is not a LevelDB database \(CURRENT is empty\)"):
        LevelDbStore(path)


@pytest.mark.parametrize("content", [b"\xff" * 300, b"text " * 10])
@pytest.mark.parametrize("part", ["manifest", "log"])
def test_junk_is_named(tmp_path: Path, content: bytes, part: str) -> None:
    path = write(tmp_path / "db", numbered(1))
    name = (path / "CURRENT").read_text().strip()
    file = path / name if part == "manifest" else files(path, ".log")[0]
    file.write_bytes(content + bytes(40000))
    with pytest.raises(DataError, match=f"{file.name}: this LevelDB file is broken"):
        LevelDbStore(path)


def test_keys_in_another_order(tmp_path: Path) -> None:
    def compare(a: bytes, b: bytes) -> int:
        return (a < b) - (a > b)

    plyvel.DB(
        str(tmp_path), create_if_missing=True, comparator=compare, comparator_name=b"mine"
    ).close()
    with pytest.raises(DataError, match="its keys are sorted by mine"):
        LevelDbStore(tmp_path)


@pytest.mark.parametrize("at", [-1, -47, 0, 2])
def test_a_broken_table_is_named(tmp_path: Path, at: int) -> None:
    """The magic number; the place of the index; sizes in a block."""
    path = in_a_table(tmp_path / "db", numbered(3))
    (table,) = files(path, ".ldb")
    data = bytearray(table.read_bytes())
    data[at] = 0xFF
    table.write_bytes(data)
    with pytest.raises(DataError, match=f"{table.name}: this LevelDB file is broken"):
        list(LevelDbStore(path).read())


@pytest.mark.parametrize("size", [0, 10])
def test_a_table_that_was_cut_off(tmp_path: Path, size: int) -> None:
    path = in_a_table(tmp_path / "db", numbered(3))
    (table,) = files(path, ".ldb")
    table.write_bytes(table.read_bytes()[:size])
    with pytest.raises(DataError, match=f"{table.name}: this LevelDB file is broken"):
        list(LevelDbStore(path).read())


def test_a_table_that_is_missing(tmp_path: Path) -> None:
    path = in_a_table(tmp_path / "db", numbered(3))
    (table,) = files(path, ".ldb")
    table.unlink()
    says = f"{table.name}: cannot be read: No such file or directory. If another process is changi"
    with pytest.raises(DataError, match=says):
        list(LevelDbStore(path).read())


def test_what_another_process_is_writing_is_read(tmp_path: Path) -> None:
    """As far as it has come: a lock keeps no reader out."""
    path = write(tmp_path / "db", numbered(3))
    with plyvel.DB(str(path)) as database:
        database.put(b"later", b"")
        assert list(LevelDbStore(path).read()) == [*numbered(3), (b"later", b"")]


@pytest.mark.parametrize(
    ("after", "value", "says"),
    [
        (4, 255, "a block is shorter than it says"),  # how many restart points there are
        (8, 1, "cannot be decompressed"),  # the kind of the block
        (8, 7, r"not known here \(7\)"),
    ],
)
def test_broken_blocks(tmp_path: Path, after: int, value: int, says: str) -> None:
    with plyvel.DB(str(tmp_path / "db"), create_if_missing=True, compression=None) as database:
        database.put(b"key", b"value")
        database.compact_range()
    (table,) = files(tmp_path / "db", ".ldb")
    data = bytearray(table.read_bytes())
    end = data.index(b"value") + len(b"value")
    assert data[end : end + 9] == bytes([0, 0, 0, 0, 1, 0, 0, 0, 0])
    data[end + after] = value
    table.write_bytes(data)
    with pytest.raises(DataError, match=says):
        list(LevelDbStore(tmp_path / "db").read())


@pytest.mark.parametrize(
    ("part", "before", "value", "says"),
    [
        (b"value", 1, 99, "ends within a key or value"),  # its length
        (b"key", 2, 9, "an entry of kind 9"),
    ],
)
def test_broken_records_of_a_log(
    tmp_path: Path, part: bytes, before: int, value: int, says: str
) -> None:
    path = write(tmp_path / "db", [(b"key", b"value")])
    (log,) = files(path, ".log")
    data = bytearray(log.read_bytes())
    data[data.index(part) - before] = value
    log.write_bytes(data)
    with pytest.raises(DataError, match=rf"{log.name}: this LevelDB file is broken: .*{says}"):
        LevelDbStore(path)


def test_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = in_a_table(tmp_path / "db", [(b"%d" % i, b"a" * 100) for i in range(10)])
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(DataError, match=r"the package cramjam\. pip install cramjam"):
        list(LevelDbStore(path).read())
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(DataError, match=r"the package plyvel\. pip install plyvel"):
        write(tmp_path / "other", numbered(1))
    assert os.listdir(tmp_path) == ["db"]
