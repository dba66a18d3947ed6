"""Windows of images: the file that lists them, and where each comes to lie in its crop.

A window file has a block for each image: `# index`, the path, channels, height, width, the number
of windows, and for each window its class, overlap with an object (0 to 1), and corners x1 y1 x2 y2
in pixels, which belong to the window.

Girshick et al., Rich feature hierarchies for accurate object detection, 2014 (section 2.3 and
appendix A: context padding, warp and square).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moka.errors import DataError
from moka.files import read_text_file
from moka.types import PathLike, Shape

LARGEST = 2**24  # below it float32 holds every whole number
f32 = np.float32  # BVLC's precision, which decides where a border is rounded to


class Box(NamedTuple):
    """Corners of a rectangle in pixels; both belong to it."""

    x1: int
    y1: int
    x2: int
    y2: int


class WindowFile(NamedTuple):
    """Paths of images, and the windows in all of them, one entry of each array a window.

    Attributes:
        image: index into `images`.
        label: class.
        overlap: with an object.
        boxes: (windows, 4), x1 y1 x2 y2.
    """

    images: list[str]
    image: NDArray[np.int32]
    label: NDArray[np.int32]
    overlap: NDArray[np.float32]
    boxes: NDArray[np.int32]


def read_windows(source: PathLike) -> WindowFile:
    """Read a window file.

    Raises:
        DataError: missing, empty, or not of this form; the image's block is named.
    """
    images: list[str] = []
    tables = []
    try:
        text = read_text_file(source)
        words = (word for line in re.finditer(".+", text) for word in line[0].split())
        for mark in words:
            path, table = _read_block(mark, words, len(images))
            images.append(path)
            tables.append(table)
    except OSError as error:
        raise DataError(
            f"{error.strerror}.",
            file=source,
            advice="`source` is a text file with the images and their windows.",
        ) from None
    except DataError as error:
        raise error.at(file=source) from None
    if not images:
        raise DataError("Window file is empty.", file=source)
    table = np.concatenate(tables)
    whole = table[:, [0, 2, 3, 4, 5]].astype(np.int32)
    counts = [len(t) for t in tables]
    of_image = np.repeat(np.arange(len(images), dtype=np.int32), counts)
    return WindowFile(images, of_image, whole[:, 0], table[:, 1], whole[:, 1:])


def _read_block(mark: str, words: Iterator[str], number: int) -> tuple[str, NDArray[np.float32]]:
    """Path of an image and its windows (n, 6): class, overlap, x1, y1, x2, y2."""
    head = list(islice(words, 6))
    try:
        if mark != "#":
            raise ValueError(f'"{mark}" where "#" was expected')
        if len(head) < 6:
            raise ValueError("the file ends within it")
        _, _, _, _, count = (int(word) for word in (head[0], *head[2:]))
        if count < 0:
            raise ValueError(f"{count} windows")
        with np.errstate(over="ignore"):
            values = np.array(list(islice(words, 6 * count)), f32)
        if len(values) < 6 * count:
            raise ValueError("the file ends within it")
        if not (abs(values) < LARGEST).all():  # which no NaN is, either
            raise ValueError(f"numbers have to be finite and below {LARGEST}")
        table = values.reshape(-1, 6)
        if (table[:, [0, 2, 3, 4, 5]] % 1).any():
            raise ValueError("classes and corners are whole numbers")
    except ValueError as error:
        raise DataError(
            f"the block of image {number} cannot be read: {error}.",
            advice="A block is: # index, path (without blanks), channels, height, width, number of"
            " windows, then for each window class overlap x1 y1 x2 y2.",
        ) from None
    return head[1], table


class Placement(NamedTuple):
    """The part to cut out of an image, and its place in the crop.

    Attributes:
        cut: the part of the image.
        height, width: what it is resized to.
        top, left: where its corner lies in the crop.
    """

    cut: Box
    height: int
    width: int
    top: int
    left: int


def place_window(
    window: Box,
    size: Shape,
    crop: int,
    *,
    context_pad: int = 0,
    square: bool = False,
    mirror: bool = False,
) -> Placement:
    """Where a window of an image of `size` (height, width) goes in a crop, `crop` pixels square.

    The window is stretched to the crop. With `context_pad` it first grows about its center, so that
    this many pixels of context surround it in the crop; with `square` its shorter side first grows
    to the longer one. The part that then lies outside the image stays empty in the crop; with
    `mirror`, on the other side.

    Raises:
        DataError: the window, as far as it may not be clipped, is not inside the image.
    """
    if not context_pad and not square:
        return Placement(_inside(window, window, size), crop, crop, 0, 0)
    grown = _grow(window, crop, context_pad, square)
    before = max(0, -grown.x1), max(0, -grown.y1)
    after = max(0, grown.x2 - size[1] + 1), max(0, grown.y2 - size[0] + 1)
    cut = Box(grown.x1 + before[0], grown.y1 + before[1], grown.x2 - after[0], grown.y2 - after[1])
    _inside(cut, window, size)
    scale_x, scale_y = (f32(crop) / f32(n) for n in _size(grown))
    cut_width, cut_height = _size(cut)
    left = _round(f32(after[0] if mirror else before[0]) * scale_x)
    top = _round(f32(before[1]) * scale_y)
    return Placement(
        cut,
        min(_round(f32(cut_height) * scale_y), crop - top),
        min(_round(f32(cut_width) * scale_x), crop - left),
        top,
        left,
    )


def _grow(window: Box, crop: int, context_pad: int, square: bool) -> Box:
    scale = f32(crop) / f32(crop - 2 * context_pad)
    half_width, half_height = (f32(n) / f32(2) for n in _size(window))
    center_x, center_y = f32(window.x1) + half_width, f32(window.y1) + half_height
    if square:
        half_width = half_height = max(half_width, half_height)
    return Box(
        _round(center_x - half_width * scale),
        _round(center_y - half_height * scale),
        _round(center_x + half_width * scale),
        _round(center_y + half_height * scale),
    )


def _size(box: Box) -> tuple[int, int]:
    """Width and height."""
    return box.x2 - box.x1 + 1, box.y2 - box.y1 + 1


def _round(value: np.float32) -> int:
    """To the nearest integer, halves away from zero, as C does."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))


def _inside(cut: Box, window: Box, size: Shape) -> Box:
    height, width = size
    if not (0 <= cut.x1 <= cut.x2 < width and 0 <= cut.y1 <= cut.y2 < height):
        corners = " ".join(str(n) for n in window)
        raise DataError(f"window {corners} is not inside the image ({height} x {width}).")
    return cut
