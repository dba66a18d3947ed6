"""MNIST's idx files to a database, of digits or of pairs of them (LeCun et al., http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import logging
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.command.run import run
from moka.data.datum import encode
from moka.data.store import make_store
from moka.errors import DataError
from moka.types import PathLike

log = logging.getLogger("moka")

ByteArray = NDArray[np.uint8]


def read_idx(path: PathLike) -> ByteArray:
    """An idx file of bytes, gzipped or not, as an array.

    Raises:
        DataError: missing, truncated, or something else.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}.", file=path) from None
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError("this is not an idx file of bytes.", file=path)
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"it is truncated: {len(data)} bytes.", file=path)
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    values = np.frombuffer(data, np.uint8, offset=start)
    if values.size != prod(shape):
        raise DataError(
            f"{values.size} bytes where shape {shape} says otherwise: it is truncated.", file=path
        )
    return values.reshape(shape)


def read_digits(images: PathLike, labels: PathLike) -> tuple[ByteArray, ByteArray]:
    """Images (N, H, W) and labels (N,) of two idx files.

    Raises:
        DataError: files that cannot be read or do not belong together.
    """
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or classes.ndim != 1 or len(pixels) != len(classes):
        raise DataError(
            f"images of shape {pixels.shape} and labels of shape {classes.shape} in"
            f" {os.fspath(labels)} do not belong together.",
            file=images,
        )
    if not len(pixels):
        raise DataError("it holds no image.", file=images)
    log.info("A total of %d items.", len(pixels))
    log.info("Rows: %d Cols: %d", *pixels.shape[1:])
    return pixels, classes


def convert_mnist(
    images: PathLike, labels: PathLike, database: PathLike, *, backend: str = "lmdb"
) -> int:
    """Write a database of Datum records (1, H, W) with keys 00000000, 00000001, ...

    Args:
        images, labels: idx files, gzipped or not.
        backend: "lmdb" or "leveldb".

    Returns:
        How many records.

    Raises:
        DataError: files that cannot be read or do not belong together; an existing database.
    """
    pixels, classes = read_digits(images, labels)
    return _write(database, backend, pixels[:, None], classes)


def convert_mnist_siamese(
    images: PathLike,
    labels: PathLike,
    database: PathLike,
    *,
    backend: str = "leveldb",
    seed: int | None = None,
) -> int:
    """Write a database of random pairs of images for a siamese net: as many pairs as images.

    A record (2, H, W) is two images, one a channel; its label is 1 if they show the same digit,
    else 0.

    Args:
        images, labels, backend: as for `convert_mnist`.
        seed: of the pairs; None draws others each time.

    Returns, raises: as `convert_mnist`.
    """
    pixels, classes = read_digits(images, labels)
    pairs = np.random.default_rng(seed).integers(0, len(pixels), (len(pixels), 2))
    same = classes[pairs[:, 0]] == classes[pairs[:, 1]]
    return _write(database, backend, (pixels[pair] for pair in pairs), same)


def _write(
    database: PathLike, backend: str, images: Iterable[ByteArray], labels: Iterable[int]
) -> int:
    """Records of images (C, H, W) with keys 00000000, 00000001, ...; returns how many."""
    count = 0
    with make_store(database, backend) as writer:
        for image, label in zip(images, labels, strict=True):
            writer.put(b"%08d" % count, encode(image, int(label)).SerializeToString())
            count += 1
    log.info("Processed %d files.", count)
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """`convert_mnist_data [-backend lmdb|leveldb] IMAGES LABELS DATABASE`."""
    return run(
        "convert_mnist_data",
        lambda words, flags: convert_mnist(*words, backend=flags["backend"]),
        argv,
    )


def siamese(argv: Sequence[str] | None = None) -> int:
    """`convert_mnist_siamese_data [-backend leveldb|lmdb] [-seed N] IMAGES LABELS DATABASE`."""

    def convert(words: list[str], flags: dict[str, Any]) -> None:
        seed = flags["seed"] if flags["seed"] >= 0 else None
        convert_mnist_siamese(*words, backend=flags["backend"], seed=seed)

    return run("convert_mnist_siamese_data", convert, argv)
