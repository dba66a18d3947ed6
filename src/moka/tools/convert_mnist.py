"""MNIST's idx files to an LMDB database (LeCun et al., http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import os
import struct
import sys
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moka.cli.flags import Flag, parse
from moka.data.datum import encode
from moka.data.lmdb import LmdbWriter
from moka.errors import DataError, MokaError, UsageError

PathLike = str | os.PathLike[str]


def read_idx(path: PathLike) -> NDArray[np.uint8]:
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


def convert_mnist(images: PathLike, labels: PathLike, database: PathLike) -> int:
    """Write a database of Datum records (1, H, W) with keys 00000000, 00000001, ...

    Returns:
        How many records.

    Raises:
        DataError: files that cannot be read or do not belong together; an existing database.
    """
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or classes.ndim != 1 or len(pixels) != len(classes):
        raise DataError(
            f"images of shape {pixels.shape} and labels of shape {classes.shape} in"
            f" {os.fspath(labels)} do not belong together.",
            file=images,
        )
    with LmdbWriter(database) as writer:
        for i, (image, label) in enumerate(zip(pixels, classes, strict=True)):
            writer.put(f"{i:08d}".encode(), encode(image[None], int(label)).SerializeToString())
    return len(pixels)


FLAGS = {"backend": Flag("backend", "lmdb", "The backend for storing the result: lmdb.")}


def main(argv: Sequence[str] | None = None) -> int:
    """`convert_mnist_data [-backend lmdb] IMAGES LABELS DATABASE`."""
    try:
        words, flags = parse(sys.argv[1:] if argv is None else argv, FLAGS)
        if len(words) != 3:
            raise UsageError("usage: convert_mnist_data [-backend lmdb] IMAGES LABELS DATABASE")
        if flags["backend"] != "lmdb":
            raise UsageError(f"Unknown db backend {flags['backend']}: lmdb can be written.")
        count = convert_mnist(*words)
    except MokaError as error:
        print(f"convert_mnist_data: {error}", file=sys.stderr)
        return 1
    print(f"Processed {count} files into {Path(words[2])}.")
    return 0
