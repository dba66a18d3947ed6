"""What a file of weights holds, whatever its kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class StoredBlob(NamedTuple):
    """One parameter.

    Attributes:
        values: float32.
        legacy: its shape was written as num, channels, height, width: aligned at the end and
            filled with 1 in front.
    """

    values: NDArray[np.float32]
    legacy: bool = False


class StoredLayer(NamedTuple):
    """One layer; its parameters by index, none if the layer was not asked for."""

    name: str
    blobs: dict[int, StoredBlob]
