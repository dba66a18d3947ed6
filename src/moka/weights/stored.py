"""The content of a file of weights, in any format."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moka.types import Array, Shape


class StoredBlob(NamedTuple):
    """One parameter.

    Attributes:
        values: floats of any width.
        legacy: the shape was written as num, channels, height, width: aligned at the end and
            filled with 1 in front.
        release: for values that are a view of a mapped file: let go of the memory that reading
            them took. It may be called again and again, between parts of them too.
    """

    values: Array
    legacy: bool = False
    release: Callable[[], None] | None = None


def valueless(shape: Shape) -> NDArray[np.float32]:
    """An array that has a shape and takes no memory, where only shapes are asked for."""
    return np.broadcast_to(np.float32(0), shape)


class StoredLayer(NamedTuple):
    """One layer of a file.

    Attributes:
        blobs: the layer's parameters by index; empty if the layer was not asked for.
        type: as "Convolution"; "" where the file does not say it.
    """

    name: str
    blobs: dict[int, StoredBlob]
    type: str = ""
