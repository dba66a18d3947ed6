from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.data import datum
from moka.data.store import open_store
from moka.errors import DataError
from moka.tools.convert_cifar import convert_cifar, main

if TYPE_CHECKING:
    from tests.messages import Messages

COUNTS = {**{f"data_batch_{i}": i for i in range(1, 6)}, "test_batch": 4}  # file to records


def content(name: str) -> bytes:
    """A file of records: a label, then 3072 bytes of red, green and blue."""
    rng = np.random.default_rng(COUNTS[name])
    rows = rng.integers(0, 256, (COUNTS[name], 3073), np.uint8)
    rows[:, 0] %= 10
    return rows.tobytes()


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in COUNTS:
        Path("in", f"{name}.bin").write_bytes(content(name))


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_two_databases_are_made(messages: Messages, backend: str) -> None:
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    assert main(["in", "out", backend]) == 0
    assert sorted(os.listdir("out")) == [f"cifar10_test_{backend}", f"cifar10_train_{backend}"]
    train = [f"data_batch_{i}" for i in range(1, 6)]
    for database, files in [("train", train), ("test", ["test_batch"])]:
        store = open_store(f"out/cifar10_{database}_{backend}")
        assert store.backend == backend
        stored = b""
        for i, (key, value) in enumerate(store.read()):
            assert key == b"%05d" % i
            record = datum.parse(value)
            assert (record.channels, record.height, record.width) == (3, 32, 32)
            stored += bytes([record.label]) + record.data
        assert stored == b"".join(map(content, files))
    assert messages() == [
        "I Writing Training data",
        *(f"I Training Batch {i}" for i in range(1, 6)),
        "I Writing Testing data",
    ]


@pytest.mark.parametrize(
    ("name", "broken", "says"),
    [
        ("data_batch_3", None, "cannot be read: No such file"),
        ("test_batch", None, "cannot be read: No such file"),
        ("data_batch_2", b"", "0 bytes are no whole number of records of 3073 bytes"),
        ("data_batch_2", content("data_batch_2")[:-1], "6145 bytes are no whole number"),
        ("test_batch", b"\x0a" + bytes(3072), "it has a label 10, but CIFAR-10's are 0 to 9"),
    ],
)
def test_files_that_are_none(name: str, broken: bytes | None, says: str) -> None:
    file = Path("in", f"{name}.bin")
    file.unlink()
    if broken is not None:
        file.write_bytes(broken)
    with pytest.raises(DataError, match=f"^{file}: {says}"):
        convert_cifar("in", "out")
    assert os.listdir("out") == []  # not even the one that was complete


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["in", "out"], "3 arguments are needed, 2 were given."),
        (["in", "out", "sql"], "Unknown db backend sql."),
        (["gone", "out", "lmdb"], "gone/data_batch_1.bin: cannot be read: No such file"),
        (["in", "in/test_batch.bin", "lmdb"], "in/test_batch.bin/cifar10_train_lmdb: the database"),
    ],
)
def test_main_refuses(messages: Messages, argv: list[str], says: str) -> None:
    assert main(argv) == 1
    assert messages()[-1].startswith(f"F {says}")


def test_an_existing_database_is_left_alone(messages: Messages) -> None:
    Path("out/cifar10_test_lmdb").mkdir(parents=True)
    assert main(["in", "out", "lmdb"]) == 1
    assert messages()[-1].startswith("F mkdir out/cifar10_test_lmdb failed: File exists")
    assert os.listdir("out") == ["cifar10_test_lmdb"]
