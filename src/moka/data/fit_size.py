"""Ways to bring an image to the size of a data set: four with DIGITS' names, and SSD's bounds."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from moka.data.decode import Image, resize

Fit = Callable[[Image, int, int], Image]


def squash(image: Image, height: int, width: int) -> Image:
    """All of the image, its sides scaled each by its own factor."""
    return resize(image, height, width)


def crop(image: Image, height: int, width: int) -> Image:
    """The image keeps its shape and covers the size; what sticks out is cut off, on both sides."""
    return _scaled(image, height, width, max)


def fill(image: Image, height: int, width: int) -> Image:
    """The image keeps its shape and fits into the size; the rest is black, on both sides."""
    return _scaled(image, height, width, min)


def half_crop(image: Image, height: int, width: int) -> Image:
    """Half way between `crop` and `fill`: some is cut off, some is black."""
    return _scaled(image, height, width, lambda a, b: (a + b) / 2)


FITS: dict[str, Fit] = {"squash": squash, "crop": crop, "fill": fill, "half_crop": half_crop}


def bounded(image: Image, least: int, most: int) -> Image:
    """The image keeps its shape. It grows until its shorter side has `least` pixels, or shrinks
    until its longer side has `most`; where both cannot be, `most` wins. 0: no bound.

    SSD computes the factor in float32 and hands it to OpenCV, whose pixels depend on it.
    """
    _, *sides = image.shape
    factor = np.float32(1)
    if least > 0 and min(sides) < least:
        factor = np.float32(least) / np.float32(min(sides))
    if 0 < most < int(factor * np.float32(max(sides))):
        factor = np.float32(most) / np.float32(max(sides))
    if factor == 1:
        return image
    scale = float(factor)
    if round(min(sides) * scale) < 1:  # OpenCV refuses an image without pixels
        return resize(image, *(max(1, round(side * scale)) for side in sides))
    scaled = cv2.resize(image.transpose(1, 2, 0), None, fx=scale, fy=scale)
    return scaled[None] if scaled.ndim == 2 else scaled.transpose(2, 0, 1)


def _scaled(
    image: Image, height: int, width: int, choose: Callable[[float, float], float]
) -> Image:
    _, high, wide = image.shape
    scale = choose(height / high, width / wide)
    scaled = resize(image, max(1, round(high * scale)), max(1, round(wide * scale)))
    return _centered(_centered(scaled, 1, height), 2, width)


def _centered(image: Image, axis: int, size: int) -> Image:
    """Cut an axis to a size around its middle, or pad it with zeros on both sides."""
    extra = image.shape[axis] - size
    if extra >= 0:
        return image.take(range(extra // 2, extra // 2 + size), axis)
    pads = [(0, 0)] * 3
    pads[axis] = (-extra // 2, -extra - -extra // 2)
    return np.pad(image, pads)
