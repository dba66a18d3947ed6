"""Tables of windows in images, as `detect` reads and writes them: CSV, or HDF5 as pandas has it.

Columns: filename, ymin, xmin, ymax, xmax and, with predictions, class0, class1, ... In HDF5 they
are what `pandas.read_hdf(file)` takes for a data frame `df` with the file names as its index; with
h5py: `df/axis1` the file names, `df/block0_values` the windows (n, 4), `df/block1_values` the
predictions (n, classes).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moka.errors import DataError
from moka.files import read_text_file, write_atomically
from moka.hdf5 import import_h5py, write_hdf5
from moka.predict.detect import Detection
from moka.types import PathLike

COORDINATES = ("ymin", "xmin", "ymax", "xmax")


class WindowTable(NamedTuple):
    """Windows in images.

    Attributes:
        filenames: of the image of each window.
        windows: (n, 4): ymin, xmin, ymax, xmax in pixels.
        predictions: (n, classes), or (n, 0) if there are none.
    """

    filenames: list[str]
    windows: NDArray[np.int64]
    predictions: NDArray[np.float32]

    @classmethod
    def of(cls, detections: Sequence[Detection]) -> Self:
        """The table of a net's outputs for windows, with the outputs as predictions."""
        n = len(detections)
        windows = np.array([d.window for d in detections], np.int64).reshape(n, 4)
        scores = np.array([np.ravel(d.prediction) for d in detections], np.float32)
        return cls([d.filename for d in detections], windows, scores.reshape(n, -1 if n else 0))

    def by_image(self) -> Iterable[tuple[str, NDArray[np.int64]]]:
        """Each image with its windows, in the order in which images come first."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.filenames):
            rows.setdefault(name, []).append(row)
        return [(name, self.windows[of_image]) for name, of_image in rows.items()]


def read_table(file: PathLike) -> WindowTable:
    """Read a table, without its predictions.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a corner that is no number.
    """
    try:
        is_csv = Path(file).suffix.lower() == ".csv"
        columns = _read_csv(file) if is_csv else _read_hdf5(file)
        missing = [name for name in ("filename", *COORDINATES) if name not in columns]
        if missing:
            raise DataError(
                f"the table has no column {', '.join(missing)}, but {', '.join(columns)}.",
                advice=f"It needs filename, {', '.join(COORDINATES)}.",
            )
        corners = np.stack([np.array(columns[name], np.float64) for name in COORDINATES], 1)
        if not np.isfinite(corners).all():
            raise DataError("the table has a row without its four corners.")
    except OSError as error:
        raise DataError(f"{error.strerror or error}.", file=file) from None
    except (ValueError, TypeError, KeyError, RuntimeError, csv.Error) as error:  # of h5py, csv
        raise DataError(f"the table cannot be read: {error}.", file=file) from None
    except DataError as error:
        raise error.at(file=file) from None
    windows = corners.astype(np.int64)
    return WindowTable(list(columns["filename"]), windows, np.empty((len(windows), 0), np.float32))


def _read_csv(file: PathLike) -> dict[str, Sequence[Any]]:
    reader = csv.DictReader(io.StringIO(read_text_file(file), newline=""), skipinitialspace=True)
    rows = list(reader)
    return {name: [row[name] for row in rows] for name in reader.fieldnames or ()}


def _read_hdf5(file: PathLike) -> dict[str, Sequence[Any]]:
    with import_h5py().File(file) as opened:
        if "df/axis1" not in opened:
            raise DataError("it holds no data frame df, as pandas writes one.")
        frame = opened["df"]
        columns: dict[str, Sequence[Any]] = {"filename": _texts(frame["axis1"])}
        block = 0
        while f"block{block}_items" in frame:
            values = frame[f"block{block}_values"][()]
            columns |= zip(_texts(frame[f"block{block}_items"]), np.transpose(values), strict=True)
            block += 1
    return columns


def _texts(names: Any) -> list[str]:
    if names.dtype.kind != "S":
        raise DataError("the index of its data frame has to be the file names.")
    return [name.decode() for name in names[()].tolist()]


def write_table(file: PathLike, table: WindowTable) -> None:
    """Write a table: CSV if the name ends so, else HDF5.

    Raises:
        OSError: the file cannot be written.
    """
    classes = [f"class{i}" for i in range(table.predictions.shape[1])]
    if Path(file).suffix.lower() == ".csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["filename", *COORDINATES, *classes])
        for name, window, scores in zip(*table, strict=True):
            writer.writerow([name, *window.tolist(), *map(str, scores)])
        write_atomically(file, lambda opened: opened.write(text.getvalue().encode()))
    else:
        blocks = [(COORDINATES, table.windows), (classes, table.predictions)]
        write_hdf5(file, lambda opened: _fill_frame(opened, table.filenames, blocks))


def _fill_frame(opened: Any, index: list[str], blocks: Sequence[tuple[Sequence[str], Any]]) -> None:
    """The data frame `df` in pandas' format "fixed", as PyTables marks its arrays."""
    blocks = [(names, values) for names, values in blocks if len(names)]
    frame = opened.create_group("df")
    for group in (opened, frame):
        _mark(group, CLASS="GROUP", VERSION="1.0")
    _mark(frame, pandas_type="frame", encoding="UTF-8", errors="strict")
    _mark(frame, axis0_variety="regular", axis1_variety="regular")
    frame.attrs.update(ndim=2, nblocks=len(blocks))
    _add_names(frame, "axis0", [name for names, _ in blocks for name in names])
    _add_names(frame, "axis1", index)
    _mark(frame["axis1"], name="filename")
    for i, (names, values) in enumerate(blocks):
        _mark(frame, **{f"block{i}_items_variety": "regular"})
        _add_names(frame, f"block{i}_items", names)
        _add_array(frame, f"block{i}_values", values)


def _add_names(frame: Any, key: str, names: Sequence[str]) -> None:
    _add_array(frame, key, np.array([name.encode() for name in names] or np.empty(0, "S1")))
    _mark(frame[key], kind="string")
    frame[key].attrs["name"] = np.bytes_(b"N.")  # None, pickled


def _add_array(frame: Any, key: str, values: NDArray[Any]) -> None:
    _mark(frame.create_dataset(key, data=values), CLASS="ARRAY", FLAVOR="numpy", VERSION="2.4")
    frame[key].attrs["transposed"] = np.uint8(1)


def _mark(member: Any, **texts: str) -> None:
    """Set attributes to UTF-8 of fixed length, which PyTables reads as text."""
    string_dtype = import_h5py().string_dtype
    for name, text in texts.items():
        data = text.encode()
        member.attrs.create(name, data, dtype=string_dtype("utf-8", len(data)))
