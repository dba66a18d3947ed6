"""MATLAB's files: arrays of numbers in its format of level 5, without compression."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from moka.files import write_atomically
from moka.types import Array, PathLike

HEADER = 116  # bytes of text before version and byte order
MATRIX, INT8, INT32, UINT32 = 14, 1, 5, 6  # of elements
# dtype: class of the array, type of its element
CLASSES = {np.dtype("f4"): (7, 7), np.dtype("f8"): (6, 9)}


def write_mat(path: PathLike, arrays: Mapping[str, Array]) -> None:
    """Write arrays of float or double under their names.

    MATLAB's arrays lie column by column: an array (N, C, H, W) becomes one of W x H x C x N in
    MATLAB, without its values being moved.
    """
    text = b"MATLAB 5.0 MAT-file".ljust(HEADER) + bytes(8)
    parts = [text + struct.pack("<H2s", 0x0100, b"IM")]
    parts += [_element(MATRIX, _matrix(name, array)) for name, array in arrays.items()]
    write_atomically(path, lambda file: file.writelines(parts))


def _matrix(name: str, array: Array) -> bytes:
    number_class, kind = CLASSES[array.dtype]
    sizes = array.shape[::-1] + (1,) * (2 - array.ndim)  # at least two axes
    return b"".join(
        (
            _element(UINT32, struct.pack("<II", number_class, 0)),
            _element(INT32, struct.pack(f"<{len(sizes)}i", *sizes)),
            _element(INT8, name.encode("ascii")),
            _element(kind, np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()),
        )
    )


def _element(kind: int, data: bytes) -> bytes:
    """A tag of type and length, and the data, filled up to a multiple of 8 bytes."""
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
