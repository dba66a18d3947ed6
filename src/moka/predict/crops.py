"""Parts of images (H, W, K) that a net looks at: the middle, ten crops, and windows.

Girshick et al., Rich feature hierarchies for accurate object detection and semantic segmentation,
2014 (appendix A tells how windows are warped with their context).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from moka.errors import UsageError
from moka.predict.images import resize_image
from moka.types import Array, Floats, Shape

CROPS = 10  # that `oversample` makes of an image
MIDDLE = 4  # the number of the one in the middle

SizeLike = ArrayLike  # height and width in pixels
Corners = ArrayLike  # ymin, xmin, ymax, xmax in pixels


def center_crop(size: SizeLike, crop: SizeLike) -> tuple[slice, slice]:
    """The rows and columns of a crop (height, width) in the middle of an image of a size.

    Raises:
        UsageError: the crop is larger than the image.
    """
    (h, w), (crop_h, crop_w) = (np.asarray(each, int).tolist() for each in (size, crop))
    if crop_h > h or crop_w > w:
        raise UsageError(f"a crop of {crop_h} x {crop_w} is larger than the image, {h} x {w}.")
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    return slice(top, top + crop_h), slice(left, left + crop_w)


def five_parts(size: SizeLike, crop: SizeLike) -> list[tuple[slice, slice]]:
    """The rows and columns of five crops (height, width) of an image of a size: its four corners
    row by row, its middle.

    Raises:
        UsageError: the crop is larger than the image.
    """
    middle = center_crop(size, crop)
    ends = [(slice(n), slice(-n, None)) for n in np.asarray(crop, int).tolist()]
    return [*((rows, columns) for rows in ends[0] for columns in ends[1]), middle]


def oversample(images: Iterable[Array], crop: SizeLike) -> Floats:
    """Ten crops of each image: its four corners row by row, its middle, and these five mirrored.

    Args:
        images: (H, W, K) each.
        crop: height and width of the crops.

    Returns:
        (10 N, height, width, K) float32.

    Raises:
        UsageError: a crop is larger than an image.
    """
    crops = []
    for image in images:
        five = [image[at] for at in five_parts(image.shape[:2], crop)]
        crops += five + [crop[:, ::-1] for crop in five]
    return np.array(crops, np.float32)


def check_context(context_pad: int, size: SizeLike) -> None:
    """Raise a UsageError if the context on both sides leaves nothing of a crop of a size."""
    height, width = np.asarray(size, int).tolist()
    if 2 * context_pad >= min(height, width):
        raise UsageError(
            f"context_pad {context_pad} on each side leaves nothing of a crop of"
            f" {height} x {width}. Give a smaller one."
        )


def cut_window(image: Array, window: Corners) -> Array:
    """The part of an image (H, W, K) within a window (ymin, xmin, ymax, xmax), in its own size.

    Raises:
        UsageError: nothing of the window is in the image.
    """
    return _cut(image, np.asarray(window).astype(int), window)


def crop_with_context(
    image: Array, window: Corners, *, context_pad: int, shape: Shape, fill: Array
) -> Floats:
    """A window of an image with what surrounds it, resized to a square crop.

    Args:
        image: (H, W, K).
        window: ymin, xmin, ymax, xmax.
        context_pad: how many pixels of surroundings the crop shows at each side of the window.
        shape: of the crop, (height, width, K).
        fill: what the crop holds where it lies outside of the image; broadcast to `shape`.

    Raises:
        UsageError: nothing of the window is in the image.
    """
    box = np.asarray(window)
    size = int(shape[1])  # crops are square
    half = (box[2:] - box[:2] + 1) / 2
    center = box[:2] + half
    half = half * size / (size - 2 * context_pad)
    first, last = np.round(center - half), np.round(center + half)
    scale = size / (last - first + 1)  # crop pixels for one pixel of the image
    offset = np.round(np.maximum(-first, 0) * scale).astype(int)
    first, last = (np.clip(corner, 0, image.shape[:2]) for corner in (first, last))
    extent = np.round((last - first + 1) * scale).astype(int)
    extent = np.minimum(extent, size - offset)
    part = _cut(image, np.concatenate([first, last]).astype(int), window)
    inside = resize_image(part, np.maximum(extent, 1).tolist())
    crop = np.ones(shape, np.float32) * fill
    (top, left), (h, w) = offset, extent
    crop[top : top + h, left : left + w] = inside[:h, :w]
    return crop


def _cut(image: Array, corners: Array, window: Corners) -> Array:
    y1, x1, y2, x2 = np.maximum(corners, 0).tolist()
    part = image[y1:y2, x1:x2]
    if not part.size:
        h, w = image.shape[:2]
        raise UsageError(
            f"the window {np.asarray(window).tolist()} (ymin, xmin, ymax, xmax) holds nothing of"
            f" the image, which is {h} x {w}."
        )
    return part
