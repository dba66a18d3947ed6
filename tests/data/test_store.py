from __future__ import annotations

import re
from pathlib import Path

import pytest

from moka.data.leveldb import LevelDbWriter
from moka.data.lmdb import LmdbWriter
from moka.data.store import make_store, open_store
from moka.errors import DataError


def test_an_lmdb_database_is_opened(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "db") as writer:
        writer.put(b"k", b"v")
    store = open_store(tmp_path / "db")
    assert (store.path, store.backend) == (tmp_path / "db", "lmdb")
    assert (len(store), list(store.read())) == (1, [(b"k", b"v")])


@pytest.mark.parametrize("backend", ["LMDB", "LEVELDB"])
def test_a_missing_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.chdir(tmp_path)
    says = f"db: No such file or directory. Make the {backend} database first, or correct its name"
    with pytest.raises(DataError, match=f"^{re.escape(says)}.*{re.escape(str(tmp_path))}"):
        open_store("db", backend)


@pytest.fixture(params=["lmdb", "LMDB", "leveldb"])
def writable(request: pytest.FixtureRequest) -> str:
    """The name of a backend that can be written here."""
    if request.param == "leveldb":
        pytest.importorskip("plyvel")
    return str(request.param)


def test_an_empty_database(tmp_path: Path, writable: str) -> None:
    with make_store(tmp_path / "db", writable):
        pass
    with pytest.raises(DataError, match="db: the database is empty"):
        open_store(tmp_path / "db")


def test_a_leveldb_database_is_opened(tmp_path: Path) -> None:
    """Whatever the net says: it shows from the files."""
    pytest.importorskip("plyvel")
    with LevelDbWriter(tmp_path / "db") as writer:
        writer.put(b"k", b"v")
    store = open_store(tmp_path / "db", "LMDB")
    assert (store.backend, list(store.read())) == ("leveldb", [(b"k", b"v")])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("data.mdb", "this is not an LMDB database"),
        ("CURRENT", r"words: cannot be read"),
        ("notes.txt", r"this is not a database: .* neither data.mdb \(LMDB\) nor CURRENT"),
    ],
)
def test_a_folder_of_something_else(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / name).write_text("words\n" if name == "CURRENT" else "words " * 2000)
    with pytest.raises(DataError, match=f"db.*{says}"):
        open_store(tmp_path / "db")


def test_a_store_is_made(tmp_path: Path, writable: str) -> None:
    with make_store(tmp_path / "db", writable) as writer:
        writer.put(b"k", b"v")
    assert open_store(tmp_path / "db").backend == writable.lower()


def test_an_unknown_backend(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Unknown db backend rocksdb\. Known are lmdb and leveldb"):
        make_store(tmp_path / "db", "rocksdb")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("words " * 2000)
    with pytest.raises(DataError, match=r"list\.txt: this is not an LMDB database"):
        open_store(tmp_path / "list.txt")
