from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moka.data import datum
from moka.data.store import open_store
from moka.errors import DataError
from moka.tools.convert_mnist import convert_mnist, main, read_idx

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 4, 3), np.uint8)
LABELS = np.array([7, 0, 9, 3, 3], np.uint8)


def idx(array: NDArray[Any], kind: int = 8) -> bytes:
    """LeCun's format: 0, 0, kind, axes, then the sizes, big-endian, then the bytes."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return head + array.tobytes()


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").write_bytes(idx(IMAGES))
    Path("labels").write_bytes(idx(LABELS))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("array", [IMAGES, LABELS])
def test_read_idx(array: NDArray[Any], packed: bool) -> None:
    content = idx(array)
    Path("file").write_bytes(gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(read_idx("file"), array)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "file: cannot be read: .*No such file"),
        (b"", "file: this is not an idx file"),
        (b"\x89PNG and more", "file: this is not an idx file"),
        (idx(LABELS, kind=13), "file: this is not an idx file of bytes"),
        (idx(IMAGES)[:-1], r"file: 59 bytes where shape \(5, 4, 3\).*truncated"),
        (idx(IMAGES)[:9], "file: .*truncated"),
        (idx(IMAGES) + b"x", r"file: 61 bytes where shape \(5, 4, 3\)"),
        (gzip.compress(idx(IMAGES))[:-9], "file: cannot be read"),
        (b"\x1f\x8b junk", "file: cannot be read"),
        (gzip.compress(idx(IMAGES))[:10] + b"\xff" * 40, "file: cannot be read"),
    ],
)
def test_files_that_are_none(content: bytes | None, says: str) -> None:
    if content is not None:
        Path("file").write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_idx("file")


def test_a_database_is_made() -> None:
    assert convert_mnist("images", "labels", "db") == 5
    records = list(open_store("db").read())
    assert [key for key, _ in records] == [b"%08d" % i for i in range(5)]
    for (_, value), image, label in zip(records, IMAGES, LABELS, strict=True):
        record = datum.parse(value)
        assert record.label == label
        np.testing.assert_array_equal(datum.decode(record), image[None])


@pytest.mark.parametrize(
    ("images", "labels"),
    [(IMAGES[:4], LABELS), (LABELS, LABELS), (IMAGES, IMAGES)],
)
def test_files_that_do_not_belong_together(images: NDArray[Any], labels: NDArray[Any]) -> None:
    Path("images").write_bytes(idx(images))
    Path("labels").write_bytes(idx(labels))
    with pytest.raises(DataError, match=r"images: images of shape .*do not belong together"):
        convert_mnist("images", "labels", "db")
    assert not Path("db").exists()


def test_an_existing_database_is_left_alone() -> None:
    Path("db").mkdir()
    with pytest.raises(DataError, match="File exists"):
        convert_mnist("images", "labels", "db")
    assert os.listdir("db") == []


@pytest.mark.parametrize("flags", [[], ["-backend", "lmdb"], ["--backend=lmdb"]])
def test_main(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert main([*flags, "images", "labels", "db"]) == 0
    assert capsys.readouterr().out == "Processed 5 files into db.\n"
    assert len(open_store("db")) == 5


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "usage: convert_mnist_data"),
        (["images", "labels"], "usage: convert_mnist_data"),
        (["-backend", "leveldb", "images", "labels", "db"], "Unknown db backend leveldb"),
        (["-bakcend", "lmdb", "images", "labels", "db"], 'Did you mean "backend"'),
        (["gone", "labels", "db"], "gone: cannot be read"),
        (["images", "labels", "labels/db"], "labels/db: the database cannot be written"),
    ],
)
def test_main_refuses(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert err.startswith("convert_mnist_data: ")
    assert says in err
    assert out == ""
    assert not Path("db").exists()
