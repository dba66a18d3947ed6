from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from moka.errors import DataError
from moka.predict.detect import Detection
from moka.tools.window_table import WindowTable, read_table, write_table

TABLE = WindowTable(
    ["b.jpg", "a/ä.jpg", "b.jpg"],
    np.array([[1, 2, 30, 40], [0, 0, 6, 7], [5, 6, 7, 8]]),
    np.array([[0.25, 0.75], [0.1, 0.9], [1, 0]], np.float32),
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("file", ["x.csv", "x.h5", "x.hdf5"])
def test_there_and_back(file: str) -> None:
    write_table(file, TABLE)
    back = read_table(file)
    assert back.filenames == TABLE.filenames
    np.testing.assert_array_equal(back.windows, TABLE.windows)
    assert back.predictions.shape == (3, 0)


def test_csv() -> None:
    write_table("x.csv", TABLE)
    assert Path("x.csv").read_text(encoding="utf-8").splitlines() == [
        "filename,ymin,xmin,ymax,xmax,class0,class1",
        "b.jpg,1,2,30,40,0.25,0.75",
        "a/ä.jpg,0,0,6,7,0.1,0.9",
        "b.jpg,5,6,7,8,1.0,0.0",
    ]


def test_columns_are_found_by_name() -> None:
    Path("x.csv").write_text("label, xmax,ymin,xmin,ymax,filename\n3,40,1.0,2,30,b.jpg\n")
    table = read_table("x.csv")
    assert (table.filenames, table.windows.tolist()) == (["b.jpg"], [[1, 2, 30, 40]])


def test_hdf5_as_pandas_has_it() -> None:
    """What pandas 3.1 and PyTables 3.10 were seen to write and to read."""
    write_table("x.h5", TABLE)
    with h5py.File("x.h5") as file:
        frame = file["df"]
        texts = ("pandas_type", "encoding", "axis1_variety", "block1_items_variety")
        assert [frame.attrs[name] for name in texts] == [b"frame", b"UTF-8", b"regular", b"regular"]
        assert (frame.attrs["ndim"], frame.attrs["nblocks"]) == (2, 2)
        columns = b"ymin xmin ymax xmax class0 class1".split()
        assert frame["axis0"][()].tolist() == columns
        assert frame["block0_items"][()].tolist() == columns[:4]
        assert frame["block1_items"][()].tolist() == columns[4:]
        assert [n.decode() for n in frame["axis1"][()]] == TABLE.filenames
        assert frame["axis1"].attrs["name"] == b"filename"
        np.testing.assert_array_equal(frame["block0_values"][()], TABLE.windows)
        np.testing.assert_array_equal(frame["block1_values"][()], TABLE.predictions)


def test_windows_by_image() -> None:
    found = [(name, windows.tolist()) for name, windows in TABLE.by_image()]
    assert found == [("b.jpg", [[1, 2, 30, 40], [5, 6, 7, 8]]), ("a/ä.jpg", [[0, 0, 6, 7]])]


def test_of_detections() -> None:
    rows = zip(*TABLE, strict=True)
    found = [Detection(window, score.reshape(2, 1, 1), name) for name, window, score in rows]
    table = WindowTable.of(found)
    np.testing.assert_array_equal(table.windows, TABLE.windows)
    np.testing.assert_array_equal(table.predictions, TABLE.predictions)
    assert table.filenames == TABLE.filenames


def test_no_windows() -> None:
    empty = WindowTable.of([])
    for file in ("x.csv", "x.h5"):
        write_table(file, empty)
        assert read_table(file).windows.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("filename,ymin,xmin\na,1,2\n", "x.csv: the table has no column ymax, xmax, but filename"),
        ("", "the table has no column filename, ymin"),
        ("filename,ymin,xmin,ymax,xmax\na,1,2,3,x\n", "could not convert string to float: 'x'"),
        (
            "filename,ymin,xmin,ymax,xmax\na,1,2,3\n",
            "the table has a row without its four corners",
        ),
    ],
)
def test_broken_csv(text: str, says: str) -> None:
    Path("x.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_table("x.csv")


def test_broken_hdf5() -> None:
    with pytest.raises(DataError, match=r"gone\.h5: .*No such file"):
        read_table("gone.h5")
    Path("x.h5").write_text("?")
    with pytest.raises(DataError, match=r"x\.h5"):
        read_table("x.h5")
    with h5py.File("y.h5", "w") as file:
        file["df/axis0"] = 1
    with pytest.raises(DataError, match=r"y\.h5: it holds no data frame df"):
        read_table("y.h5")
    with h5py.File("z.h5", "w") as file:
        file["df/axis1"] = [1, 2]
    with pytest.raises(DataError, match=r"z\.h5: the index of its data frame has to be the file"):
        read_table("z.h5")
