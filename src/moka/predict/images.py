"""Image files as arrays (H, W, K), RGB, and arrays of another size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import ArrayLike

from moka.data.decode import Image, decode_image
from moka.errors import DataError
from moka.files import read_bytes
from moka.predict.resample import resample
from moka.types import Array, Floats, PathLike

# The weights of red, green and blue that scikit-image uses.
LUMINANCE = np.array([[0.2125], [0.7154], [0.0721]], np.float32)


def load_image(file: PathLike | BinaryIO, *, color: bool = True) -> Floats:
    """Read an image file as (H, W, 3), RGB, or as (H, W, 1) if not `color`; float32 from 0 to 1.

    Transparency is left out. A colored image becomes gray by its luminance.

    Args:
        file: its name, or an open file, such as an upload to a web page, read from its beginning.

    Raises:
        OSError: the file cannot be read.
        DataError: it is no image.
    """
    if isinstance(file, str | os.PathLike):
        data, name = read_bytes(file), os.fspath(file)
    else:
        if file.seekable():  # programs hand over a buffer that they have just written
            file.seek(0)
        data, name = file.read(), "(open file)"
    try:
        planes = decode_image(data, name)
    except DataError as error:
        raise error.at(file=name) from None
    top = np.iinfo(planes.dtype).max if planes.dtype.kind == "u" else 1
    image = (planes.transpose(1, 2, 0) / np.float64(top)).astype(np.float32)
    if image.shape[2] == 1:
        return np.tile(image, (1, 1, 3)) if color else image
    rgb = image[:, :, 2::-1]
    return np.ascontiguousarray(rgb) if color else rgb @ LUMINANCE


def with_channels(image: Image, channels: int) -> Image:
    """A decoded image (C, H, W) with one channel, gray, or three, BGR, as OpenCV converts it;
    transparency is left out."""
    if len(image) == channels:
        return image
    planes = np.ascontiguousarray(image.transpose(1, 2, 0))
    if len(image) == 4:
        how = cv2.COLOR_BGRA2GRAY if channels == 1 else cv2.COLOR_BGRA2BGR
    else:
        how = cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_GRAY2BGR
    changed = cv2.cvtColor(planes, how)
    return changed[None] if changed.ndim == 2 else changed.transpose(2, 0, 1)


def resize_image(image: ArrayLike, size: Sequence[int], order: int = 1) -> Floats:
    """Resize an image (H, W, K) to (size[0], size[1], K) float32, as pycaffe does.

    Images of one and three channels are resized as by scikit-image (since 0.15, mode "reflect",
    without smoothing): aligned by their corners, mirrored at the border, and kept within the
    range of the image. Others are resized as by `scipy.ndimage.zoom`: the centers of their corner
    pixels stay in the corners, and whole numbers stay whole. (scipy's last row or column is black
    for about one size in forty, by a rounding error; here it never is.)

    Args:
        order: of the spline: 0 nearest pixel, 1 linear, 3 cubic, up to 5.

    Raises:
        UsageError: not an image, not a size, or an unknown order.
    """
    values = np.asarray(image)
    if values.shape[-1:] in ((1,), (3,)):
        resized = resample(values, size, order)
        return np.clip(resized, values.min(), values.max()).astype(np.float32)
    resized = resample(values, size, order, centers=True)
    return _as_stored(resized, values.dtype).astype(np.float32)


def _as_stored(values: Array, dtype: np.dtype) -> Array:
    """Values as an array of `dtype` can hold them: integers are rounded and kept in range."""
    if dtype.kind not in "iu":
        return values
    limits = np.iinfo(dtype)
    return np.clip(np.trunc(values + np.copysign(0.5, values)), limits.min, limits.max)
