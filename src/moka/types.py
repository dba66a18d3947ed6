"""Names for types that every part uses."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
PathLike = str | os.PathLike[str]
Shape = tuple[int, ...]
HeightWidth = tuple[int, int]  # in pixels
