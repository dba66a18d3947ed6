"""MATLAB's .mat files of version 5, written."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from moka.files import write_atomically
from moka.types import Array

TEXT = b"MATLAB 5.0 MAT-file, written by Moka"
VERSION, LITTLE_ENDIAN = 0x0100, 0x4D49
MATRIX = 14  # kinds of elements
INT8, INT32, UINT32 = 1, 5, 6
FLOATS = {"f4": (7, 7), "f8": (6, 9)}  # by NumPy's name: MATLAB's class, and the kind of element


def write_mat(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays of floats by name. Their last axis is MATLAB's first, so bytes keep their order.

    Raises:
        OSError: the file cannot be written.
    """

    def write(file: BinaryIO) -> None:
        file.write(TEXT.ljust(116) + bytes(8) + struct.pack("<HH", VERSION, LITTLE_ENDIAN))
        for name, values in arrays.items():
            file.write(_matrix(name, values))

    write_atomically(path, write)


def _matrix(name: str, values: Array) -> bytes:
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    in_matlab, kind = FLOATS[little.dtype.str[1:]]
    axes = (*values.shape[::-1], 1, 1)[: max(2, values.ndim)]
    parts = (
        _element(UINT32, struct.pack("<II", in_matlab, 0)),
        _element(INT32, struct.pack(f"<{len(axes)}i", *axes)),
        _element(INT8, name.encode()),
        _element(kind, little.tobytes()),
    )
    return _element(MATRIX, b"".join(parts))


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
