"""CIFAR-10's binary files to two databases (Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moka.command.run import run
from moka.data.datum import encode
from moka.data.store import check_backend, make_store
from moka.data.writer import RecordWriter
from moka.errors import DataError
from moka.report.progress import progress
from moka.types import PathLike

log = logging.getLogger("moka")

SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, and the red, the green and the blue pixels
LABELS = 10
TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]
TEST = ["test_batch.bin"]


def read_cifar_file(path: PathLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, 3, 32, 32), RGB, and labels (N,) of a binary file.

    Raises:
        DataError: missing, truncated, or something else.
    """
    try:
        values = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", file=path) from None
    if not values.size or values.size % RECORD:
        raise DataError(
            f"{values.size} bytes are no whole number of records of {RECORD} bytes: this is"
            " truncated, or no file of CIFAR-10's binary version.",
            file=path,
        )
    rows = values.reshape(-1, RECORD)
    if rows[:, 0].max() >= LABELS:
        raise DataError(
            f"it has a label {rows[:, 0].max()}, but CIFAR-10's are 0 to 9: this is no file of"
            " its binary version.",
            file=path,
        )
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0]


def convert_cifar(input_folder: PathLike, output_folder: PathLike, backend: str = "lmdb") -> None:
    """Write the databases cifar10_train_<backend> and cifar10_test_<backend>, both or none.

    Records are (3, 32, 32) with red first, as in the files; keys are 00000, 00001, ...

    Args:
        input_folder: with data_batch_1.bin to data_batch_5.bin and test_batch.bin.
        output_folder: where to put them.
        backend: "lmdb" or "leveldb".

    Raises:
        DataError: files that are missing or broken; an existing database.
    """
    check_backend(backend)
    folder, target = Path(input_folder), Path(output_folder)
    files = len(TRAIN) + len(TEST)
    with ExitStack() as stack, progress("batches", files) as show:
        train, test = (
            stack.enter_context(make_store(target / f"cifar10_{name}_{backend}", backend))
            for name in ("train", "test")
        )
        log.info("Writing Training data")
        count = 0
        for i, name in enumerate(TRAIN):
            log.info("Training Batch %d", i + 1)
            count = _write(folder / name, train, count)
            show(i + 1)
        log.info("Writing Testing data")
        _write(folder / TEST[0], test, 0)
        show(files)


def _write(path: Path, writer: RecordWriter, count: int) -> int:
    """Add a file's records with keys from `count` on; returns the next one."""
    images, labels = read_cifar_file(path)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        writer.put(b"%05d" % (count + i), encode(image, int(label)).SerializeToString())
    return count + len(images)


def main(argv: Sequence[str] | None = None) -> int:
    """`convert_cifar_data INPUT_FOLDER OUTPUT_FOLDER DB_TYPE`."""
    return run("convert_cifar_data", lambda words, flags: convert_cifar(*words), argv)
