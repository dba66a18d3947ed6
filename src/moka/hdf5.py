"""HDF5 files: recognize them, and write them so that they are complete or not there at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from moka.errors import MokaError
from moka.files import local_path, write_atomically
from moka.types import PathLike

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def import_h5py() -> Any:
    """Return the module h5py. Raises MokaError if it is not installed."""
    try:
        import h5py
    except ImportError:
        raise MokaError("HDF5 files need the package h5py.", advice="pip install h5py") from None
    return h5py


def is_hdf5(path: PathLike) -> bool:
    """Whether a file begins as HDF5 files do; False if it cannot be read."""
    try:
        with open(local_path(path), "rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except (OSError, ValueError):  # ValueError: a null character in the name
        return False


def write_hdf5(path: PathLike, fill: Callable[[Any], object]) -> None:
    """Write an HDF5 file, made in memory first.

    Args:
        path: the file's final name.
        fill: called with the open, empty `h5py.File`.

    Raises:
        OSError: the file cannot be written; an old file of that name is untouched.
    """
    image = io.BytesIO()
    with import_h5py().File(image, "w") as file:
        fill(file)
    write_atomically(path, lambda target: target.write(image.getbuffer()))
