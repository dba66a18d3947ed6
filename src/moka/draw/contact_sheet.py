"""Many images on one sheet, with their boxes on them and a line of text under each."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from moka.data.box_rows import COLUMNS, CORNERS, cut_rows
from moka.data.decode import Image
from moka.types import Floats

CELL = 112  # pixels: an image is scaled so that its longer side has about this many
CAPTION = 16  # pixels of text below it
GAP = 6
BACKGROUND, INK = 255, 40
GOLDEN_RATIO = 0.618034  # of the color circle from a label to the next: colors that differ most
WHOLE = np.array([0, 0, 1, 1], np.float32)
NO_BOXES = np.zeros((0, COLUMNS), np.float32)

Picture = NDArray[np.uint8]  # (height, width, 3), BGR


def contact_sheet(
    images: Sequence[Image], captions: Sequence[str], boxes: Sequence[Floats] | None = None
) -> Picture:
    """One image of images (C, H, W), in reading order, with about as many rows as columns.

    One channel is shown in gray and three as BGR; other channels stand side by side. Bytes are
    shown as they are; other numbers are stretched from the image's least to its greatest.

    Args:
        boxes: for each image rows (G, 7), see `moka.data.box_rows`, drawn as an AnnotatedData layer
            gives them: cut to the image. Each label has its color.
    """
    boxes = boxes or [NO_BOXES] * len(images)
    cells = [_cell(*each) for each in zip(images, captions, boxes, strict=True)]
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


def _cell(image: Image, caption: str, boxes: Floats) -> Picture:
    """An image with its boxes, scaled to fit a cell, above its caption."""
    shown = picture(image)
    scaled = _scaled(shown, CELL / max(shown.shape[:2]))
    for part in np.array_split(scaled, shown.shape[1] // image.shape[2], axis=1):
        _draw_boxes(part, boxes)
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


def _draw_boxes(image: Picture, boxes: Floats) -> None:
    """Draw rectangles of one pixel's width on an image."""
    height, width = image.shape[:2]
    for row in cut_rows(boxes, WHOLE, None):
        x1, y1, x2, y2 = np.rint(row[CORNERS] * np.tile([width, height], 2)).astype(int).tolist()
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), _label_color(int(row[0])))


def _label_color(label: int) -> list[int]:
    """A bright color, BGR."""
    rgb = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 1, 1)
    return [round(255 * value) for value in reversed(rgb)]


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, np.uint8)
