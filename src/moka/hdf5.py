"""HDF5 files: recognize them, and write them so that they are complete or not there at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.errors import MokaError
from moka.files import local_path, write_atomically
from moka.types import PathLike

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# What h5py raises for broken files: it has no error of its own.
FAULTS = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError)
_BEST_PACKED = 1100  # times smaller than its numbers: what gzip makes of zeros
_WORTH_ASKING = 1 << 26  # bytes


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


def numbers_of(dataset: Any, kinds: str = "fiu") -> NDArray[np.float32]:
    """A dataset's numbers; those beyond float32 are infinite.

    Args:
        kinds: of NumPy's types that count as numbers.

    Raises:
        FAULTS: the dataset is damaged; holds something else; or says that it is larger than the
            file can be.
    """
    if dataset.dtype.kind not in kinds:
        raise TypeError(f"it does not hold numbers but {dataset.dtype}")
    size = (dataset.size or 0) * max(dataset.dtype.itemsize, 4)
    outside = dataset.is_virtual or dataset.external
    if (
        size > _WORTH_ASKING
        and size > _BEST_PACKED * dataset.file.id.get_filesize()
        and not outside
    ):
        raise ValueError(f"it says to have the shape {dataset.shape}, which no such file can hold")
    with np.errstate(all="ignore"):
        return np.asarray(dataset[()], np.float32)


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
    with image.getbuffer() as whole:
        write_atomically(path, lambda target: target.write(whole))
