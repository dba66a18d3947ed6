from __future__ import annotations

import itertools
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from moka.data import hdf5
from moka.data.hdf5 import Hdf5Rows, append_rows, read_datasets, read_file_list, read_shapes
from moka.data.place import ORDER, CursorState, generator
from moka.errors import DataError

START = CursorState()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """list.txt: one.h5 with rows 0 to 2, two.h5 with rows 3 to 6; `data` (2,), `label` ()."""
    monkeypatch.chdir(tmp_path)
    for name, first, count in (("one.h5", 0, 3), ("two.h5", 3, 4)):
        rows = np.arange(first, first + count)
        write(name, data=np.stack([rows, rows + 0.5], axis=1), label=rows)
    Path("list.txt").write_text("one.h5\n\n  two.h5  \n")
    return "list.txt"


def write(name: str, **datasets: Any) -> None:
    with h5py.File(name, "w") as file:
        for key, values in datasets.items():
            file[key] = values


def test_read_list(source: str) -> None:
    assert read_file_list(source) == ["one.h5", "two.h5"]


def test_names_in_a_list_are_bytes(source: str) -> None:
    Path("list.txt").write_bytes(b"caf\xe9.h5\n")
    assert read_file_list("list.txt") == ["caf\udce9.h5"]


def test_rows_that_differ_from_those_of_the_first_file(source: str) -> None:
    write("two.h5", data=np.zeros((4, 3)), label=np.zeros(4))
    with pytest.raises(
        DataError, match=r"two.h5: the rows of data have shape \(3,\), those of one"
    ):
        Hdf5Rows(source, ["data", "label"])


def test_a_file_of_the_list_that_is_missing(source: str) -> None:
    Path("two.h5").unlink()
    with pytest.raises(
        DataError, match=r"^two\.h5: Failed opening HDF5 file: No such file .*current directory"
    ):
        Hdf5Rows(source, ["data"])


def test_a_list_that_is_missing_or_empty(source: str) -> None:
    with pytest.raises(DataError, match=r"Failed to open source file: gone\.txt: No such file"):
        read_file_list("gone.txt")
    Path("empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"empty\.txt: the list names no file"):
        read_file_list("empty.txt")


def test_a_list_that_is_a_file_of_rows(source: str) -> None:
    with pytest.raises(DataError, match=r"one\.h5: this is an HDF5 file, not a list of some"):
        read_file_list("one.h5")


def test_datasets_are_float32_in_the_order_asked_for(source: str) -> None:
    label, data = read_datasets("one.h5", ["label", "data"])
    assert label.dtype == data.dtype == np.float32
    np.testing.assert_array_equal(label, [0, 1, 2])
    np.testing.assert_array_equal(data, [[0, 0.5], [1, 1.5], [2, 2.5]])


@pytest.mark.parametrize(
    ("datasets", "names", "says"),
    [
        ({"data": [[1.0]]}, ["data", "lable"], "no dataset is named lable; found data"),
        (
            {"a": [1.0, 2.0], "b": [1.0]},
            ["a", "b"],
            r"must have equal numbers of rows, at least 1: a has shape \(2,\), b has .* \(1,\)\.$",
        ),
        ({"a": ["cat"]}, ["a"], 'the dataset "a" does not hold numbers but object'),
        ({"a": [1j]}, ["a"], 'the dataset "a" does not hold numbers but complex128'),
        ({"a": h5py.Empty("f")}, ["a"], "a has shape None"),
        ({"a": 1.0}, ["a"], "rows"),
        ({"a/b": 1.0, "c": 1.0}, ["a"], r"no dataset is named a; found a/, c\."),
        ({}, ["a"], r"no dataset is named a; found none\."),
        ({"a": np.zeros((0, 2))}, ["a"], "rows"),
    ],
)
def test_datasets_that_do_not_fit(
    source: str, datasets: dict[str, Any], names: list[str], says: str
) -> None:
    write("bad.h5", **datasets)
    for read in (read_shapes, read_datasets):
        with pytest.raises(DataError, match=rf"^bad\.h5: .*{says}"):
            read("bad.h5", names)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "float64"])
def test_numbers_of_all_kinds(source: str, dtype: str) -> None:
    write("kinds.h5", a=np.array([[0, 1], [1, 1]], dtype))
    assert read_shapes("kinds.h5", ["a"]) == [(2, 2)]
    (values,) = read_datasets("kinds.h5", ["a"])
    assert values.dtype == np.float32
    assert values.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"No such file or directory\. Relative names start at the current directory\.$"),
        (b"junk", "file signature not found"),
        (b"", "file signature not found"),
    ],
)
def test_files_that_are_none(source: str, content: bytes | None, says: str) -> None:
    if content is not None:
        Path("bad.h5").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.h5: Failed opening HDF5 file: .*{says}"):
        read_datasets("bad.h5", ["data"])


def test_a_file_that_was_cut_off(source: str) -> None:
    Path("one.h5").write_bytes(Path("one.h5").read_bytes()[:1500])
    with pytest.raises(DataError, match=r"one\.h5: Failed opening HDF5 file: .*truncated file"):
        Hdf5Rows(source, ["data"])


def test_rows_that_are_damaged(source: str) -> None:
    with h5py.File("one.h5", "w") as file:
        rows = np.random.default_rng(1).random((1000, 50))
        file.create_dataset("data", data=rows, chunks=(100, 50), compression="gzip")
    content = bytearray(Path("one.h5").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 10000] = bytes(10000)
    Path("one.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"one\.h5: Failed opening HDF5 file: .*read data"):
        read_datasets("one.h5", ["data"])


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_batches_run_across_files_and_start_over(source: str, size: int) -> None:
    rows = Hdf5Rows(source, ["data", "label"])
    assert rows.row_shapes == [(2,), ()]
    for k, (data, label) in enumerate(islice(rows.batches(size, START), 6)):
        wanted = [(k * size + i) % 7 for i in range(size)]
        np.testing.assert_array_equal(label, wanted)
        np.testing.assert_array_equal(data, [[v, v + 0.5] for v in wanted])


def test_shuffling_keeps_rows_whole_and_visits_each_once_an_epoch(source: str) -> None:
    rows = Hdf5Rows(source, ["data", "label"], shuffle=True)
    orders = []
    for data, label in islice(rows.batches(7, CursorState(0, 3)), 6):
        np.testing.assert_array_equal(data, np.stack([label, label + 0.5], axis=1))
        orders.append(tuple(label.tolist()))
        assert sorted(orders[-1]) == list(range(7))
    assert len(set(orders)) > 1
    firsts = {order[0] < 3 for order in orders}
    assert firsts == {True, False}  # the files are shuffled too
    # A file's rows stay together.
    assert all(sorted(order[:3]) == [0, 1, 2] or sorted(order[4:]) == [0, 1, 2] for order in orders)


def slow_rows(
    source: str, count: int, *, shuffle: bool, seed: int | None
) -> list[tuple[str, float]]:
    """Names and values of the first rows, one after the other."""
    files = [
        (name, values)
        for name in read_file_list(source)
        for (values,) in [read_datasets(name, ["label"])]
    ]
    found: list[tuple[str, float]] = []
    for epoch in itertools.count():
        rng = generator(seed, ORDER, epoch)
        for i in rng.permutation(len(files)) if shuffle else range(len(files)):
            name, values = files[i]
            for row in rng.permutation(len(values)) if shuffle else range(len(values)):
                found.append((f"{name} row {row}", float(values[row])))
        if len(found) >= count:
            return found[:count]
    raise AssertionError


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 9, 16])
@pytest.mark.parametrize("skip", [0, 1, 3, 4, 6, 7, 20])
def test_rows_after_some_rows(source: str, shuffle: bool, size: int, skip: int) -> None:
    write("three.h5", data=np.zeros((1, 2)), label=[9])
    Path("list.txt").write_text("one.h5\ntwo.h5\nthree.h5\none.h5\n")
    wanted = slow_rows(source, skip + 3 * size, shuffle=shuffle, seed=4)[skip:]
    rows = Hdf5Rows(source, ["label"], shuffle=shuffle)
    after = CursorState(skip, 4)
    assert rows.record_names(after, 3 * size) == [name for name, _ in wanted]
    got = [value for (label,) in islice(rows.batches(size, after), 3) for value in label.tolist()]
    assert got == [value for _, value in wanted]


def test_another_seed_is_another_order(source: str) -> None:
    rows = Hdf5Rows(source, ["label"], shuffle=True)
    orders = {tuple(next(rows.batches(7, CursorState(0, seed)))[0]) for seed in range(5)}
    assert len(orders) > 3


@pytest.mark.parametrize("files", [1, 2])
def test_a_file_is_read_when_it_is_turned_to(
    source: str, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only one of a list once."""
    Path("list.txt").write_text("one.h5\ntwo.h5\n" if files == 2 else "one.h5\n")
    read: list[str] = []

    def counting(file: str, names: list[str]) -> Any:
        read.append(file)
        return read_datasets(file, names)

    monkeypatch.setattr(hdf5, "read_datasets", counting)
    batches = Hdf5Rows(source, ["label"]).batches(3, START)
    for _ in range(7):
        next(batches)
    assert read == (["one.h5"] if files == 1 else ["one.h5", "two.h5"] * 3)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_is_the_callers_to_change(source: str, shuffle: bool) -> None:
    Path("list.txt").write_text("one.h5\n")
    batches = Hdf5Rows(source, ["label"], shuffle=shuffle).batches(3, CursorState(0, 1))
    for _ in range(3):
        (label,) = next(batches)
        assert sorted(label) == [0, 1, 2]
        label[:] = 7


def test_rows_are_appended_or_start_afresh(tmp_path: Path) -> None:
    file = tmp_path / "out.h5"
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    for afresh, count in ((True, 3), (False, 6), (False, 9), (True, 3)):
        append_rows(file, {"a": rows, "b": rows[:, 0]}, afresh=afresh)
        a, b = read_datasets(file, ["a", "b"])
        np.testing.assert_array_equal(a, np.concatenate([rows] * (count // 3)))
        np.testing.assert_array_equal(b, a[:, 0])


def test_rows_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing/out\.h5: Failed writing HDF5 file"):
        append_rows(tmp_path / "missing" / "out.h5", {}, afresh=True)
