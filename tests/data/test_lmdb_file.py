"""The reader of LMDB's files, against LMDB itself."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from moka.data.lmdb_file import LmdbFile
from moka.errors import DataError

Records = list[tuple[bytes, bytes]]


def write(folder: Path, *, transactions: int, sizes: list[int], seed: int) -> Records:
    """Fill a database in a random order, with records that are deleted again; returns the rest."""
    rng = random.Random(seed)
    with lmdb.open(str(folder), map_size=1 << 28, sync=False) as environment:
        for _ in range(transactions):
            with environment.begin(write=True) as transaction:
                keys = [rng.randbytes(rng.randint(1, 300)) for _ in range(500)]
                for key in keys:
                    transaction.put(key, rng.randbytes(rng.choice(sizes)))
                for key in keys[::3]:
                    transaction.delete(key)
        with environment.begin() as transaction:
            return list(transaction.cursor())


@pytest.mark.parametrize(
    ("transactions", "sizes"),
    [(1, [5]), (4, [0, 1, 50]), (3, [1000, 2020, 2040]), (2, [3, 5000, 70_000])],
)
def test_a_tree_is_read_as_lmdb_reads_it(
    tmp_path: Path, transactions: int, sizes: list[int]
) -> None:
    wanted = write(tmp_path / "db", transactions=transactions, sizes=sizes, seed=1)
    file = LmdbFile(tmp_path / "db" / "data.mdb")
    assert file.meta().entries == len(wanted)
    assert list(file.records()) == wanted
    for start, step in ((0, 2), (7, 5), (len(wanted) - 1, 1), (len(wanted) + 9, 3)):
        assert list(file.records(start, step)) == wanted[start::step]
    numbers = random.Random(3).choices(range(len(wanted)), k=50)
    assert list(file.pick(numbers)) == [wanted[k] for k in numbers]


@pytest.mark.parametrize("read", [LmdbFile.records, lambda file: file.pick(range(9))])
def test_a_file_that_is_cut_while_it_is_read(
    tmp_path: Path, read: Callable[[LmdbFile], Iterator[tuple[bytes, bytes]]]
) -> None:
    """To read behind its end would end the process."""
    write(tmp_path / "db", transactions=1, sizes=[3000], seed=1)
    file = LmdbFile(tmp_path / "db" / "data.mdb")
    records = read(file)
    next(records)
    os.truncate(file.path, 4096)
    with pytest.raises(DataError, match=r"record 1, .*somebody has cut the file, or written"):
        next(records)
    with pytest.raises(DataError, match="somebody has cut the file, or written"):
        next(read(file))


def test_records_that_are_added_are_seen_by_the_next_reading(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 28) as environment:
        with environment.begin(write=True) as transaction:
            transaction.put(b"a", b"1")
        file = LmdbFile(tmp_path / "db" / "data.mdb")
        assert [key for key, _ in file.records()] == [b"a"]
        assert [key for key, _ in file.pick([0])] == [b"a"]
        with environment.begin(write=True) as transaction:
            transaction.put(b"b", bytes(1 << 20))
        assert [key for key, _ in file.records()] == [b"a", b"b"]
        assert [key for key, _ in file.pick([1, 0])] == [b"b", b"a"]


PAGE = 4096


def _damage_leaves(data: bytearray, at: int, value: bytes) -> None:
    """Overwrite bytes in each page that says it is a leaf."""
    for page in range(2 * PAGE, len(data), PAGE):
        if struct.unpack_from("<QHH", data, page) == (page // PAGE, 0, 2):
            data[page + at : page + at + len(value)] = value


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: _damage_leaves(data, 0, bytes(8)),  # another number
        lambda data: _damage_leaves(data, 10, b"\1"),  # a branch
        lambda data: _damage_leaves(data, 12, b"\xff\xff"),  # too many nodes
        lambda data: _damage_leaves(data, 12, b"\x12\0"),  # one node
        lambda data: _damage_leaves(data, 16, b"\xff\xff"),  # a node beyond the page
    ],
    ids=["number", "kind", "many", "one", "beyond"],
)
def test_a_damaged_page_is_an_error(tmp_path: Path, damage: Callable[[bytearray], None]) -> None:
    write(tmp_path / "db", transactions=2, sizes=[100], seed=2)
    path = tmp_path / "db" / "data.mdb"
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"^this LMDB database is damaged: record \d+, counted"):
        list(LmdbFile(path).records())


def test_no_damage_ends_in_anything_but_an_error(tmp_path: Path) -> None:
    """LMDB itself aborts the process at about one in ten."""
    write(tmp_path / "db", transactions=2, sizes=[100, 3000], seed=3)
    shutil.copy(tmp_path / "db" / "data.mdb", path := tmp_path / "data.mdb")
    whole = path.read_bytes()
    rng = random.Random(4)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 4, 64])):
            page = rng.randrange(len(data) // PAGE) * PAGE
            data[page + rng.randrange(40)] = rng.randrange(256)
        path.write_bytes(data)
        try:
            list(LmdbFile(path).records())
            list(LmdbFile(path).pick(range(100)))
        except DataError:
            refused += 1
    assert refused > 100
