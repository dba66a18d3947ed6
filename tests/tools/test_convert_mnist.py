from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moka.data import datum
from moka.data.store import open_store
from moka.errors import DataError
from moka.tools.convert_mnist import (
    convert_mnist,
    convert_mnist_siamese,
    main,
    read_idx,
    siamese,
)

if TYPE_CHECKING:
    from tests.messages import Messages

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
    Path("file").write_bytes(gzip.compress(content, mtime=0) if packed else content)
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
        (gzip.compress(idx(IMAGES), mtime=0)[:-9], "file: cannot be read"),
        (b"\x1f\x8b junk", "file: cannot be read"),
        (gzip.compress(idx(IMAGES), mtime=0)[:10] + b"\xff" * 40, "file: cannot be read"),
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


@pytest.mark.parametrize("convert", [convert_mnist, convert_mnist_siamese])
def test_files_without_images(convert: Callable[..., int]) -> None:
    Path("images").write_bytes(idx(IMAGES[:0]))
    Path("labels").write_bytes(idx(LABELS[:0]))
    with pytest.raises(DataError, match=r"^images: it holds no image\.$"):
        convert("images", "labels", "db")


def test_an_existing_database_is_left_alone() -> None:
    Path("db").mkdir()
    with pytest.raises(DataError, match="File exists"):
        convert_mnist("images", "labels", "db")
    assert os.listdir("db") == []


@pytest.mark.parametrize(
    ("flags", "backend"),
    [([], "lmdb"), (["-backend", "lmdb"], "lmdb"), (["--backend=leveldb"], "leveldb")],
)
def test_main(messages: Messages, flags: list[str], backend: str) -> None:
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    assert main([*flags, "images", "labels", "db"]) == 0
    assert messages() == [
        "I A total of 5 items.",
        "I Rows: 4 Cols: 3",
        "I Processed 5 files.",
    ]
    store = open_store("db")
    assert (store.backend, len(store)) == (backend, 5)


def index(image: NDArray[Any]) -> int:
    """Which of the images it is."""
    return next(i for i, other in enumerate(IMAGES) if np.array_equal(image, other))


def test_pairs_for_a_siamese_net() -> None:
    assert convert_mnist_siamese("images", "labels", "db", backend="lmdb", seed=2) == 5
    records = list(open_store("db").read())
    assert [key for key, _ in records] == [b"%08d" % i for i in range(5)]
    pairs = []
    for _, value in records:
        record = datum.parse(value)
        first, second = map(index, datum.decode(record))
        assert record.label == (LABELS[first] == LABELS[second])
        pairs.append((first, second))
    assert len(set(pairs)) > 2
    assert any(first != second for first, second in pairs)


def test_pairs_of_one_seed_are_the_same() -> None:
    for name, seed in [("a", ["-seed=1"]), ("b", ["-seed", "1"]), ("c", ["-seed", "2"]), ("d", [])]:
        assert siamese(["-backend=lmdb", *seed, "images", "labels", name]) == 0
    a, b, c, d = (list(open_store(name).read()) for name in "abcd")
    assert a == b
    assert a != c
    assert d not in (a, c)


def test_pairs_go_to_leveldb() -> None:
    pytest.importorskip("plyvel")
    assert siamese(["images", "labels", "db"]) == 0
    assert open_store("db").backend == "leveldb"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "3 arguments are needed, 0 were given."),
        (["images", "labels"], "3 arguments are needed, 2 were given."),
        (["-backend", "sql", "images", "labels", "db"], "Unknown db backend sql."),
        (["-bakcend", "lmdb", "images", "labels", "db"], "unknown command line flag 'bakcend'."),
        (["gone", "labels", "db"], "gone: cannot be read"),
        (["-backend", "lmdb", "images", "labels", "labels"], "mkdir labels failed: File exists"),
        (["-backend", "lmdb", "images", "labels", "labels/db"], "labels/db: the database cannot"),
    ],
)
@pytest.mark.parametrize(
    ("program", "name"), [(main, "convert_mnist_data"), (siamese, "convert_mnist_siamese_data")]
)
def test_main_refuses(
    messages: Messages,
    program: Callable[[list[str]], int],
    name: str,
    argv: list[str],
    says: str,
) -> None:
    assert program(argv) == 1
    assert messages()[-1].startswith(f"F {says.format(name)}")
    assert not Path("db").exists()
