"""What users hand to a net, as float32 arrays of the shapes that OpenCV makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moka.opencv.errors import OpenCVError
from moka.types import Array, Floats, Shape

SCALAR_SIZE = 4  # of a cv::Scalar
Scalar = float | Sequence[float] | Array


def scalar(value: Scalar, name: str) -> tuple[float, float, float, float]:
    """A cv::Scalar: up to four numbers; those that are not given are 0, also for a single number.

    Raises:
        OpenCVError: more than four, or no numbers.
    """
    try:
        given = [float(v) for v in np.atleast_1d(np.asarray(value, float)).ravel()]
    except (TypeError, ValueError):
        raise OpenCVError(f"{name} is a number or up to four, got {value!r}.") from None
    if len(given) > SCALAR_SIZE:
        raise OpenCVError(f"{name} has at most four numbers, got {len(given)}.")
    a, b, c, d = given + [0.0] * (SCALAR_SIZE - len(given))
    return a, b, c, d


def as_blob(array: Any, name: str = "blob") -> Floats:
    """A float32 array of its own, row-major. One axis becomes a column, as in a cv::Mat.

    Raises:
        OpenCVError: it is no NumPy array of numbers, or it is empty.
    """
    if not isinstance(array, np.ndarray):
        raise OpenCVError(
            f"{name} is a {type(array).__name__}, it must be a NumPy array.",
            advice="blobFromImage makes one of an image.",
        )
    if array.dtype.kind not in "iuf":
        raise OpenCVError(f"{name} has dtype {array.dtype}, it must be uint8 or float32.")
    if array.size == 0:
        raise OpenCVError(f"{name} is empty: its shape is {array.shape}.")
    made = np.array(array, np.float32, order="C")
    return made.reshape(-1, 1) if made.ndim < 2 else made


def normalized(blob: Floats, scale: float, mean: Scalar) -> Floats:
    """(blob - mean) * scale, with a mean for each channel (axis 1).

    Raises:
        OpenCVError: a mean for more channels than four, or for a blob without channels.
    """
    means = scalar(mean, "mean")
    if any(means):
        if blob.ndim < 3 or blob.shape[1] > SCALAR_SIZE:
            raise OpenCVError(
                f"mean takes a blob with up to four channels in axis 1, got shape {blob.shape}.",
                advice="Subtract the mean from the blob itself.",
            )
        values = np.array(means[: blob.shape[1]], np.float32)
        blob -= values.reshape(-1, *(1,) * (blob.ndim - 2))
    if scale != 1:
        blob *= np.float32(scale)
    return blob


def shapes_of(given: Any, inputs: Sequence[str]) -> dict[str, Shape]:
    """Shapes by the names of the inputs, from one shape or a list of them.

    Raises:
        OpenCVError: another number of shapes than inputs, or something else than shapes.
    """
    try:
        plain = list(given)
        several = [plain] if all(np.isscalar(n) for n in plain) else plain
        shapes = [tuple(int(n) for n in shape) for shape in several]
    except (TypeError, ValueError):
        raise OpenCVError(f"{given!r} is no shape such as (1, 3, 224, 224).") from None
    if len(shapes) != len(inputs):
        raise OpenCVError(
            f"got {len(shapes)} shapes for the {len(inputs)} inputs {', '.join(inputs)}."
        )
    return dict(zip(inputs, shapes, strict=True))
