from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from moka.data.hdf5 import Hdf5Rows, append_rows, read_datasets, read_list
from moka.errors import DataError


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
    assert read_list(source) == ["one.h5", "two.h5"]


def test_names_in_a_list_are_bytes(source: str) -> None:
    Path("list.txt").write_bytes(b"caf\xe9.h5\n")
    assert read_list("list.txt") == ["caf\udce9.h5"]


def test_rows_that_differ_from_those_of_the_first_file(source: str) -> None:
    write("two.h5", data=np.zeros((4, 3)), label=np.zeros(4))
    batches = Hdf5Rows(source, ["data", "label"]).batches(2)
    next(batches)
    with pytest.raises(
        DataError, match=r"two.h5: the rows of data have shape \(3,\), those of one"
    ):
        next(batches)


def test_a_list_that_is_missing_or_empty(source: str) -> None:
    with pytest.raises(DataError, match=r"Failed to open source file: gone\.txt: No such file"):
        read_list("gone.txt")
    Path("empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"empty\.txt: the list names no file"):
        read_list("empty.txt")


def test_datasets_are_float32_in_the_order_asked_for(source: str) -> None:
    label, data = read_datasets("one.h5", ["label", "data"])
    assert label.dtype == data.dtype == np.float32
    np.testing.assert_array_equal(label, [0, 1, 2])
    np.testing.assert_array_equal(data, [[0, 0.5], [1, 1.5], [2, 2.5]])


@pytest.mark.parametrize(
    ("datasets", "names", "says"),
    [
        ({"data": [[1.0]]}, ["data", "lable"], "no dataset is named lable; found data"),
        ({"a": [1.0, 2.0], "b": [1.0]}, ["a", "b"], "must have equal numbers of rows, at least 1"),
        ({"a": 1.0}, ["a"], "rows"),
        ({"a/b": 1.0}, ["a"], "no dataset is named a; found a"),
        ({"a": np.zeros((0, 2))}, ["a"], "rows"),
    ],
)
def test_datasets_that_do_not_fit(
    source: str, datasets: dict[str, Any], names: list[str], says: str
) -> None:
    write("bad.h5", **datasets)
    with pytest.raises(DataError, match=rf"bad\.h5: .*{says}"):
        read_datasets("bad.h5", names)


@pytest.mark.parametrize("content", [None, b"junk"])
def test_files_that_are_none(source: str, content: bytes | None) -> None:
    if content is not None:
        Path("bad.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.h5: Failed opening HDF5 file"):
        read_datasets("bad.h5", ["data"])


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_batches_run_across_files_and_start_over(source: str, size: int) -> None:
    rows = Hdf5Rows(source, ["data", "label"])
    assert rows.row_shapes == [(2,), ()]
    for k, (data, label) in enumerate(islice(rows.batches(size), 6)):
        wanted = [(k * size + i) % 7 for i in range(size)]
        np.testing.assert_array_equal(label, wanted)
        np.testing.assert_array_equal(data, [[v, v + 0.5] for v in wanted])


def test_shuffling_keeps_rows_whole_and_visits_each_once_an_epoch(source: str) -> None:
    rows = Hdf5Rows(source, ["data", "label"], seed=3)
    orders = []
    for data, label in islice(rows.batches(7), 6):
        np.testing.assert_array_equal(data, np.stack([label, label + 0.5], axis=1))
        orders.append(tuple(label.tolist()))
        assert sorted(orders[-1]) == list(range(7))
    assert len(set(orders)) > 1
    firsts = {order[0] < 3 for order in orders}
    assert firsts == {True, False}  # the files are shuffled too
    # A file's rows stay together.
    assert all(sorted(order[:3]) == [0, 1, 2] or sorted(order[4:]) == [0, 1, 2] for order in orders)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("skip", [1, 3, 4, 6, 7, 20])
def test_going_on_after_some_rows(source: str, seed: int | None, skip: int) -> None:
    straight = Hdf5Rows(source, ["label"], seed).batches(1)
    resumed = Hdf5Rows(source, ["label"], seed).batches(1, skip)
    rows = [float(label[0]) for (label,) in islice(straight, skip + 9)]
    assert [float(label[0]) for (label,) in islice(resumed, 9)] == rows[skip:]


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
