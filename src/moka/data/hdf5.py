"""Rows of HDF5 files, as HDF5Data reads and HDF5Output writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moka.errors import DataError
from moka.hdf5 import import_h5py

Array = NDArray[np.float32]
PathLike = str | os.PathLike[str]


def read_list(source: PathLike) -> list[str]:
    """The file names in a list file, one a line.

    Raises:
        DataError: missing or empty.
    """
    try:
        text = os.fsdecode(Path(source).read_bytes())  # names of files are bytes
    except OSError as error:
        raise DataError(
            f"Failed to open source file: {os.fspath(source)}: {error.strerror}.",
            advice="`source` is a text file with the name of an HDF5 file on each line.",
        ) from None
    files = [name for name in map(str.strip, text.splitlines()) if name]
    if not files:
        raise DataError("the list names no file.", file=source)
    return files


def read_datasets(file: PathLike, names: Sequence[str]) -> list[Array]:
    """Datasets of a file as float32 arrays with one first axis.

    Raises:
        DataError: missing file or dataset, no numbers, no rows, or different numbers of rows.
    """
    h5py = import_h5py()
    try:
        with h5py.File(file, "r") as opened:
            missing = [name for name in names if not isinstance(opened.get(name), h5py.Dataset)]
            if missing:
                raise DataError(
                    f"no dataset is named {', '.join(missing)}; found {', '.join(opened)}.",
                    file=file,
                    advice="The tops of an HDF5Data layer are the names of the datasets.",
                )
            arrays = [np.asarray(opened[name], dtype=np.float32) for name in names]
    except OSError as error:
        raise DataError(f"Failed opening HDF5 file: {error}.", file=file) from None
    rows = {name: array.shape[:1] for name, array in zip(names, arrays, strict=True)}
    if len(set(rows.values())) != 1 or () in rows.values() or (0,) in rows.values():
        raise DataError(
            f"the datasets must have equal numbers of rows, at least 1: {rows}.", file=file
        )
    return arrays


def append_rows(file: PathLike, columns: Mapping[str, Array], *, afresh: bool) -> None:
    """Write rows to datasets of a file, after those that are there.

    Args:
        columns: (rows, ...) for each dataset.
        afresh: start a new file, in the place of an old one.

    Raises:
        DataError: the file cannot be written.
    """
    h5py = import_h5py()
    try:
        with h5py.File(file, "w" if afresh else "a") as opened:
            for name, rows in columns.items():
                if name not in opened:
                    shape = (0, *rows.shape[1:])
                    opened.create_dataset(name, shape, np.float32, maxshape=(None, *shape[1:]))
                dataset = opened[name]
                dataset.resize(len(dataset) + len(rows), axis=0)
                dataset[len(dataset) - len(rows) :] = rows
    except OSError as error:
        raise DataError(f"Failed writing HDF5 file: {error}.", file=file) from None


class Hdf5Rows:
    """Rows of the files of a list, over and over; one file at a time is in memory.

    Args:
        source: the list file.
        names: the datasets.
        seed: of the order of the files in each epoch and of the rows in each file; None: in order.
    """

    def __init__(self, source: PathLike, names: Sequence[str], seed: int | None = None) -> None:
        self.files = read_list(source)
        self.names = names
        self.seed = seed
        first = read_datasets(self.files[0], names)
        self.row_shapes = [array.shape[1:] for array in first]
        self._counts = {0: len(first[0])}  # rows of each file, as far as they are known

    def batches(self, size: int, skip: int = 0) -> Iterator[list[Array]]:
        """Batches of `size` rows without end, after the first `skip` rows."""
        rows = self._rows(skip)
        while True:
            picked = [next(rows) for _ in range(size)]
            yield [np.stack(column) for column in zip(*picked, strict=True)]

    def _rows(self, skip: int) -> Iterator[list[Array]]:
        rng = None if self.seed is None else np.random.default_rng(self.seed)
        while True:
            for i in _order(len(self.files), rng):
                arrays = None
                if i not in self._counts:
                    arrays = self._read(i)
                    self._counts[i] = len(arrays[0])
                order = _order(self._counts[i], rng)
                if skip < len(order):
                    arrays = arrays or self._read(i)
                    for row in order[skip:]:
                        yield [array[row] for array in arrays]
                skip = max(0, skip - len(order))

    def _read(self, index: int) -> list[Array]:
        """The datasets of one file.

        Raises:
            DataError: as `read_datasets`, or rows of another shape than in the first file.
        """
        file = self.files[index]
        arrays = read_datasets(file, self.names)
        for name, array, shape in zip(self.names, arrays, self.row_shapes, strict=True):
            if array.shape[1:] != shape:
                raise DataError(
                    f"the rows of {name} have shape {array.shape[1:]}, those of {self.files[0]}"
                    f" have {shape}.",
                    file=file,
                )
        return arrays


def _order(count: int, rng: np.random.Generator | None) -> Sequence[int]:
    return range(count) if rng is None else rng.permutation(count).tolist()
