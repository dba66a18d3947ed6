"""Many images on one sheet, with a line of text under each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from moka.data.decode import Image

CELL = 112  # pixels: an image is scaled so that its longer side has about this many
CAPTION = 16  # pixels of text below it
GAP = 6
BACKGROUND, INK = 255, 40

Picture = NDArray[np.uint8]  # (height, width, 3), BGR


def contact_sheet(images: Sequence[Image], captions: Sequence[str]) -> Picture:
    """One image of images (C, H, W), in reading order, with about as many rows as columns.

    One channel is shown in gray and three as BGR; other channels stand side by side. Bytes are
    shown as they are; other numbers are stretched from the image's least to its greatest.
    """
    cells = [_cell(picture(i), text) for i, text in zip(images, captions, strict=True)]
    height, width = (max(cell.shape[axis] for cell in cells) + GAP for axis in (0, 1))
    columns = math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    sheet = _blank(rows * height + GAP, columns * width + GAP)
    for k, cell in enumerate(cells):
        y, x = GAP + k // columns * height, GAP + k % columns * width
        sheet[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    return sheet


def picture(image: Image) -> Picture:
    """An image (C, H, W) of any kind as a picture of the same height."""
    values = np.asarray(image, np.uint8) if image.dtype == np.uint8 else _stretched(image)
    if len(values) != 3:
        values = np.concatenate(list(values), axis=-1)[None].repeat(3, 0)
    return values.transpose(1, 2, 0)


def _stretched(image: Image) -> NDArray[np.uint8]:
    finite = np.nan_to_num(image.astype(np.float64), posinf=0, neginf=0)
    low, high = finite.min(), finite.max()
    return np.round((finite - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _cell(image: Picture, caption: str) -> Picture:
    """An image, scaled to fit a cell, above its caption."""
    scaled = _scaled(image, CELL / max(image.shape[:2]))
    cell = _blank(scaled.shape[0] + CAPTION, max(scaled.shape[1], CELL))
    cell[: scaled.shape[0], : scaled.shape[1]] = scaled
    baseline = (0, cell.shape[0] - 4)
    cv2.putText(
        cell, caption, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (INK,) * 3, lineType=cv2.LINE_AA
    )
    return cell


def _scaled(image: Picture, scale: float) -> Picture:
    """Enlarge an image by a whole factor, or shrink it by exactly this one."""
    if scale >= 1:
        return image.repeat(int(scale), 0).repeat(int(scale), 1)
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, np.uint8)
