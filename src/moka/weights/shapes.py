"""What a file of weights holds, without its numbers."""

from __future__ import annotations

from moka.hdf5 import is_hdf5
from moka.types import PathLike
from moka.weights import hdf5, mapped
from moka.weights.stored import StoredLayer


def stored_shapes(file: PathLike) -> list[StoredLayer]:
    """The layers of a model file with the shapes of their blobs; the values are not to be used.

    Args:
        file: a .caffemodel or its HDF5 form, recognized by content.

    Raises:
        WeightsError: the file is missing, truncated or no model; says what it is.
    """
    if is_hdf5(file):
        return hdf5.stored_layers(file, None, shapes_only=True)
    return mapped.stored_layers(file)
