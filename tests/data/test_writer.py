"""What holds for the writers of all kinds of databases."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import lmdb
import pytest

from moka.data.lmdb import LmdbWriter
from moka.data.store import make_store, open_store
from moka.data.writer import COMMIT_EVERY
from moka.errors import DataError

Records = list[tuple[bytes, bytes]]


@pytest.fixture(params=["lmdb", "leveldb"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "leveldb":
        pytest.importorskip("plyvel")
    return str(request.param)


def write(path: Path, records: Iterable[tuple[bytes, bytes]], backend: str) -> Path:
    with make_store(path, backend) as writer:
        for key, value in records:
            writer.put(key, value)
    return path


def numbered(count: int) -> Records:
    return [(b"%06d" % i, b"value %d" % i) for i in range(count)]


@pytest.mark.parametrize("count", [1, COMMIT_EVERY, COMMIT_EVERY + 3])
def test_what_is_written_is_read(tmp_path: Path, backend: str, count: int) -> None:
    store = open_store(write(tmp_path / "db", numbered(count), backend))
    assert store.backend == backend
    assert len(store) == count
    assert list(store.read()) == numbered(count)


def test_a_later_value_replaces_an_earlier_one(tmp_path: Path, backend: str) -> None:
    records = [(b"k", b"first"), (b"a", b"other"), (b"k", b"second")]
    store = open_store(write(tmp_path / "db", records, backend))
    assert list(store.read()) == [(b"a", b"other"), (b"k", b"second")]


def test_an_existing_target_is_refused(tmp_path: Path, backend: str) -> None:
    path = write(tmp_path / "db", numbered(3), backend)
    refusal = {"lmdb": "mkdir {} failed", "leveldb": "Failed to open leveldb {}"}[backend]
    with pytest.raises(DataError, match=rf"^{refusal.format(path)}: File exists.*Remove it first"):
        make_store(path, backend)
    assert list(open_store(path).read()) == numbered(3)


@pytest.mark.parametrize("count", [1, COMMIT_EVERY + 1])
def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, backend: str, count: int) -> None:
    def records() -> Iterator[tuple[bytes, bytes]]:
        yield from numbered(count)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "db", records(), backend)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path: Path, backend: str) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(DataError, match="db: the database cannot be written"):
        write(tmp_path / "a_file" / "db", numbered(1), backend)
    assert os.listdir(tmp_path) == ["a_file"]


def test_nothing_has_the_name_before_it_is_complete(tmp_path: Path, backend: str) -> None:
    with make_store(tmp_path / "db", backend) as writer:
        writer.put(b"k", b"v")
        assert not (tmp_path / "db").exists()
    assert os.listdir(tmp_path) == ["db"]


def test_folders_on_the_way_are_made(tmp_path: Path, backend: str) -> None:
    assert len(open_store(write(tmp_path / "a" / "b" / "db", numbered(1), backend))) == 1


def test_a_start_that_fails_leaves_nothing(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(folder: Path) -> None:
        folder.mkdir()
        raise OSError("disk full")

    writer = make_store(tmp_path / "db", backend)
    monkeypatch.setattr(writer, "open", half)
    with pytest.raises(DataError, match="db: the database cannot be written: disk full"), writer:
        pass
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_removed(tmp_path: Path, backend: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for name in (f".db.{ended.pid}.part", f".db.{os.getppid()}.part", f".other.{ended.pid}.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").touch()
    write(tmp_path / "db", numbered(1), backend)
    left = {f".db.{os.getppid()}.part", f".other.{ended.pid}.part"}
    assert set(os.listdir(tmp_path)) == {"db", *left}


def test_what_leveldb_says_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plyvel = pytest.importorskip("plyvel")
    writer = make_store(tmp_path / "db", "leveldb")

    def fail(_: object) -> None:
        raise plyvel.IOError(b"IO error: disk full")

    monkeypatch.setattr(writer, "open", fail)
    says = r"db: the database cannot be written: IO error: disk full\.$"
    with pytest.raises(DataError, match=says), writer:
        pass


def test_too_few_addresses_for_lmdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise lmdb.MemoryError("a: Cannot allocate memory")

    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(DataError, match=r"Cannot allocate memory\. .*ulimit -v unlimited"):
        LmdbWriter(tmp_path / "db").__enter__()
