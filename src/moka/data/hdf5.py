"""Rows of HDF5 files, as HDF5Data reads and HDF5Output writes them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.data.lists import read_names
from moka.data.place import EVERYTHING, ORDER, TRANSFORM, CursorState, Share, generator
from moka.data.transform import Transform
from moka.errors import DataError, NetError
from moka.files import full_disk, local_path
from moka.hdf5 import FAULTS, import_h5py, is_hdf5, numbers_of
from moka.types import Floats, PathLike, Shape

Rows = range | NDArray[np.int64]

KINDS = "iufb"  # of NumPy's types that count as numbers
OVERHEAD = 1 << 16  # bytes of a file that are no rows, at most
HDF5_LIST_ADVICE = "`source` is a text file with the name of an HDF5 file on each line."


def read_file_list(source: PathLike) -> list[str]:
    """The names of HDF5 files in a list file, one a line.

    Raises:
        DataError: missing or empty.
    """
    try:
        files = read_names(source)
    except OSError as error:
        raise DataError(
            f"Failed to open source file: {os.fspath(source)}: {error.strerror}.",
            advice=HDF5_LIST_ADVICE,
        ) from None
    if is_hdf5(source):
        raise DataError(
            "this is an HDF5 file, not a list of some.",
            file=source,
            advice=HDF5_LIST_ADVICE,
        )
    if not files:
        raise DataError("the list names no file.", file=source)
    return files


@contextlib.contextmanager
def _datasets(file: PathLike, names: Sequence[str]) -> Iterator[list[Any]]:
    """The open datasets of a file, which agree in their first axis.

    Raises:
        DataError: missing file or dataset, no numbers, no rows, or different numbers of rows.
    """
    h5py = import_h5py()
    try:
        with h5py.File(local_path(file), "r") as opened:
            missing = [name for name in names if not isinstance(opened.get(name), h5py.Dataset)]
            if missing:
                found = ", ".join(
                    f"{k}/" if isinstance(v, h5py.Group) else str(k) for k, v in opened.items()
                )
                raise DataError(
                    f"no dataset is named {', '.join(missing)}; found {found or 'none'}.",
                    advice="The tops of an HDF5Data layer are the names of the datasets.",
                )
            datasets = [opened[name] for name in names]
            _check(dict(zip(names, datasets, strict=True)))
            yield datasets
    except DataError as error:
        raise error.at(file=file) from None
    except FAULTS as error:
        number = getattr(error, "errno", None)
        fact = os.strerror(number) if number else str(error)
        advice = (
            "Relative names start at the current directory." if number == errno.ENOENT else None
        )
        raise DataError(f"Failed opening HDF5 file: {fact}.", file=file, advice=advice) from None


def _check(datasets: Mapping[str, Any]) -> None:
    for name, dataset in datasets.items():
        if dataset.dtype.kind not in KINDS:
            raise DataError(f'the dataset "{name}" does not hold numbers but {dataset.dtype}.')
    rows = {dataset.shape[:1] if dataset.shape else () for dataset in datasets.values()}
    if len(rows) != 1 or rows & {(), (0,)}:
        found = ", ".join(f"{name} has shape {d.shape}" for name, d in datasets.items())
        raise DataError(f"the datasets must have equal numbers of rows, at least 1: {found}.")


def read_shapes(file: PathLike, names: Sequence[str]) -> list[Shape]:
    """Shapes (rows, ...) of datasets of a file. Raises DataError if `read_datasets` would."""
    with _datasets(file, names) as datasets:
        return [dataset.shape for dataset in datasets]


def read_datasets(file: PathLike, names: Sequence[str]) -> list[Floats]:
    """Datasets of a file as float32 arrays, which agree in their first axis.

    Raises:
        DataError: missing file or dataset, no numbers, no rows, or different numbers of rows.
    """
    with _datasets(file, names) as datasets:
        return [numbers_of(dataset, KINDS) for dataset in datasets]


def append_rows(file: PathLike, columns: Mapping[str, Floats], *, afresh: bool) -> None:
    """Append rows to the datasets of a file.

    Args:
        columns: (rows, ...) for each dataset.
        afresh: start a new file; an old one is replaced.

    Raises:
        DataError: the file cannot be written.
    """
    h5py = import_h5py()
    wanted = OVERHEAD + sum(rows.nbytes for rows in columns.values())
    if full := full_disk(file, wanted):  # HDF5 may end the process after it could not write
        raise DataError(f"Failed writing HDF5 file: {full}", file=file)
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
        why = os.strerror(error.errno) if error.errno else error  # HDF5's own words are many
        raise DataError(f"Failed writing HDF5 file: {why}.", file=file) from None


class Hdf5Rows:
    """Rows of the files of a list, over and over; one file at a time is in memory.

    Args:
        source: the list file.
        names: the datasets.
        shuffle: in each epoch a new order of the files, and of the rows in each, by the seed.

    Raises:
        DataError: as `read_file_list` and `read_shapes`; rows of another shape than in the first
            file.
    """

    def __init__(self, source: PathLike, names: Sequence[str], *, shuffle: bool = False) -> None:
        self.files = read_file_list(source)
        self.names = names
        self.shuffle = shuffle
        shapes = [read_shapes(file, names) for file in self.files]
        self.row_shapes = [shape[1:] for shape in shapes[0]]
        self.counts = [of_file[0][0] for of_file in shapes]
        for file, of_file in zip(self.files, shapes, strict=True):
            for name, (_, *shape), wanted in zip(names, of_file, self.row_shapes, strict=True):
                if tuple(shape) != wanted:
                    raise DataError(
                        f"the rows of {name} have shape {tuple(shape)}, those of {self.files[0]}"
                        f" have {wanted}.",
                        file=file,
                    )

    def batches(self, size: int, after: CursorState) -> Iterator[list[Floats]]:
        """Batches of `size` rows from a state on, without end. The caller may change them."""
        runs = self._runs(after)
        file, rows = next(runs)
        arrays = read_datasets(self.files[file], self.names)
        while True:
            parts = []
            wanted = size
            while wanted:
                if not len(rows):
                    before = file
                    file, rows = next(runs)
                    if file != before:
                        arrays = read_datasets(self.files[file], self.names)
                here, rows = rows[:wanted], rows[wanted:]
                parts.append([_pick(array, here) for array in arrays])
                wanted -= len(here)
            yield [np.concatenate(column) for column in zip(*parts, strict=True)]

    def record_names(self, after: CursorState, count: int) -> list[str]:
        """Names of the next `count` rows after a state; rows count from 0 in their file."""
        places = ((file, row) for file, rows in self._runs(after) for row in rows)
        return [f"{self.files[file]} row {row}" for file, row in islice(places, count)]

    def _runs(self, after: CursorState) -> Iterator[tuple[int, Rows]]:
        """Indices of a file and of rows in it, in reading order, from a state on, without end."""
        first, at = divmod(after.records_read, sum(self.counts))
        for epoch in itertools.count(first):
            rng = generator(after.seed, ORDER, epoch)
            for file in self._order(len(self.files), rng):
                rows = self._order(self.counts[file], rng)
                if at < len(rows):
                    yield int(file), rows[at:]
                at = max(0, at - len(rows))

    def _order(self, count: int, rng: np.random.Generator) -> Rows:
        return rng.permutation(count) if self.shuffle else range(count)


class Hdf5Batches:
    """Batches of rows of HDF5 files.

    Args:
        rows: where they come from.
        transform: of the first dataset, whose rows are images then; None: the rows as they are.
        batch_size: rows a batch.
        start: where a new run begins.

    Attributes:
        row_shapes: of each array of a batch without its first axis.

    Raises:
        NetError: a transformation that is not for HDF5 files.
        DataError: rows that are no images; images that the transformation does not fit.
    """

    def __init__(
        self,
        rows: Hdf5Rows,
        transform: Transform | None,
        *,
        batch_size: int,
        start: CursorState,
    ) -> None:
        self.rows = rows
        self.transform = transform
        self.batch_size = batch_size
        self.start = start
        self.row_shapes = list(rows.row_shapes)
        if transform is not None:
            self.row_shapes[0] = self._image_shape(transform)

    def _image_shape(self, transform: Transform) -> Shape:
        """Shape of the first dataset's images, transformed."""
        name, shape = self.rows.names[0], self.rows.row_shapes[0]
        if transform.force_color or transform.force_gray:
            raise NetError("force_color and force_gray are for encoded images, which HDF5 has not.")
        try:
            if len(shape) != 3:
                raise DataError(
                    "transform_param is for images (channels, height, width), and the rows of"
                    f' "{name}", the first top, have shape {shape}.'
                )
            return transform.out_shape(shape)
        except DataError as error:
            raise error.at(file=self.rows.files[0]) from None

    def stream(
        self, after: CursorState, share: Share = EVERYTHING
    ) -> Iterator[tuple[list[Floats], CursorState]]:
        """Batches from a state on, without end, each with the state after it.

        Args:
            share: the part of the rows to read.
        """
        stride = share.stride(self.batch_size)
        begin = after.seeded(self.start.seed)
        for of_all in self.rows.batches(stride, begin):
            arrays = [array[share.of_round(self.batch_size)] for array in of_all]
            if self.transform is not None:
                place, count, part = share.drawn_for(begin, self.batch_size)
                rng = generator(begin.seed, TRANSFORM, place)
                draw = self.transform.draw([self.rows.row_shapes[0]] * count, rng).part(part)
                arrays[0] = self.transform.apply(arrays[0], draw)
            begin = begin.moved(stride)
            yield arrays, begin

    def record_count(self) -> int:
        """How many rows there are."""
        return sum(self.rows.counts)

    def names(self, after: CursorState, share: Share = EVERYTHING) -> list[str]:
        """Names of the rows of the batch before a state, in order; none before the first."""
        count = min(share.stride(self.batch_size), after.records_read)
        names = self.rows.record_names(after.moved(-count), count)
        return names[share.of_round(self.batch_size)]


def _pick(array: Floats, rows: Rows) -> Floats:
    """Some rows of an array; a range is not copied."""
    return array[rows.start : rows.stop] if isinstance(rows, range) else array[rows]
