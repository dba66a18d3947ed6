from __future__ import annotations

import re
from pathlib import Path

import pytest

from moka.data.lmdb import LmdbWriter
from moka.data.store import open_store
from moka.errors import DataError


def test_an_lmdb_database_is_opened(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "db") as writer:
        writer.put(b"k", b"v")
    store = open_store(tmp_path / "db")
    assert (store.path, len(store), list(store.read())) == (tmp_path / "db", 1, [(b"k", b"v")])


@pytest.mark.parametrize("backend", ["LMDB", "LEVELDB"])
def test_a_missing_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.chdir(tmp_path)
    says = f"db: No such file or directory. Make the {backend} database first, or correct `source`"
    with pytest.raises(DataError, match=f"^{re.escape(says)}.*{re.escape(str(tmp_path))}"):
        open_store("db", backend)


def test_an_empty_database(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "db"):
        pass
    with pytest.raises(DataError, match="db: the database is empty"):
        open_store(tmp_path / "db")


def test_a_leveldb_folder(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("MANIFEST-000002\n")
    with pytest.raises(DataError, match=r"is a LevelDB database.*Make an LMDB database"):
        open_store(tmp_path, "LEVELDB")


@pytest.mark.parametrize("name", ["data.mdb", "notes.txt"])
def test_a_folder_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / name).write_text("words " * 2000)
    with pytest.raises(DataError, match="db: this is not an LMDB database"):
        open_store(tmp_path / "db")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("words " * 2000)
    with pytest.raises(DataError, match=r"list\.txt: this is not an LMDB database"):
        open_store(tmp_path / "list.txt")
