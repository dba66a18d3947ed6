"""Images scaled about one of their objects and laid on a canvas, for MS-CNN and Cascade R-CNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moka.data.batches import Batch, Drawing, Examples, RecordBatches
from moka.data.box_rows import mirror_corners
from moka.data.decode import Image, resize
from moka.data.distort import Distort, distorted
from moka.data.field_labels import CORNERS, IGNORE, FieldLabels, Place, nearest
from moka.data.object_lists import ListedImage, Objects
from moka.data.place import CursorState
from moka.data.transform import Transform
from moka.errors import DataError
from moka.types import Floats, HeightWidth

# From an image's size and the batch's ratio to the size that it is resized to.
Resize = Callable[[int, int, float], HeightWidth]
# Draws the factors (height, width) to scale an image by, about an object (7,) if there is one.
Rescale = Callable[[Floats | None, np.random.Generator], tuple[float, float]]

_NOISE = 10  # pixels that a canvas is moved by at most
_LARGE_FACTOR, _KEPT = 1.5, 1.2  # above it an image is cut first, to so much more than it takes


def move(objects: Objects, scale: tuple[float, float], shift: tuple[float, float]) -> Objects:
    """Objects of an image that is scaled by (height, width) factors, then shifted by (y, x)."""
    factor = np.array([scale[1], scale[0]] * 2, np.float32)
    offset = np.array([shift[1], shift[0]] * 2, np.float32)
    rows = objects.rows.copy()
    rows[:, CORNERS] = rows[:, CORNERS] * factor + offset
    return Objects(rows, objects.regions * factor + offset)


def boxes_table(images: Sequence[Floats], empty: Sequence[float], columns: int) -> Floats:
    """The boxes of a batch, (G, columns, 1, 1): image, x1, y1, x2, y2, label, ignore, difficult."""
    rows = [
        np.concatenate(
            [np.full((len(each), 1), item, np.float32), each[:, CORNERS], each[:, :3]], axis=1
        )[:, :columns]
        for item, each in enumerate(images)
    ]
    table = np.concatenate(rows).astype(np.float32, copy=False)
    return (table if len(table) else np.array([empty], np.float32))[:, :, None, None]


@dataclass(frozen=True)
class CanvasOptions:
    """How images become a batch.

    Attributes:
        resize: of each image.
        canvas: from the size of the first image of a batch, resized, to that of the batch.
        rescale: see Rescale.
        ratios: one of these is drawn for each batch, for `resize` and `canvas`.
        distort: changes of the colors.
        scale: multiplies that of the transformation.
        least: height and width in pixels below which objects are ignored.
        labels: makes maps of labels.
        boxes: makes the last top of the rows of each image; None: there is none.
    """

    resize: Resize
    canvas: Resize
    rescale: Rescale
    labels: FieldLabels
    ratios: Sequence[float] = (1.0,)
    distort: Distort | None = None
    scale: float = 1.0
    least: tuple[float, float] = (0.0, 0.0)
    boxes: Callable[[Sequence[Floats]], Floats] | None = None


class CanvasBatches(RecordBatches[ListedImage]):
    """Batches of images on canvases of one size, maps of labels, and boxes.

    An image is mirrored by chance, resized, scaled about one of its objects, and laid on its canvas
    so that this object is near the center, as far as the image covers the canvas then. Where there
    is no image the canvas is 0.

    Args:
        options: see CanvasOptions.
        examples, batch_size, start: see RecordBatches.
        transform: mirror, mean_value and scale; nothing else of it is used.

    Raises:
        DataError: the first image cannot be read.
    """

    def __init__(
        self,
        examples: Examples[ListedImage],
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        options: CanvasOptions,
    ) -> None:
        super().__init__(examples, transform, batch_size=batch_size, start=start)
        self.options = options
        first = next(examples.records(start.records_read, start.seed))
        (image,), _ = examples.load([first])
        canvas = options.canvas(*options.resize(image.shape[1], image.shape[2], 1.0), 1.0)
        self.image_shape = (len(image), *canvas)
        self.label_shape = ()
        if len(transform.mean_values) not in (0, 1, len(image)):
            raise DataError(
                f"Specify either 1 mean_value or as many as channels: {len(transform.mean_values)}"
                f" values for {len(image)} channels."
            )

    def _batch(self, records: list[ListedImage], drawing: Drawing, *, on_device: bool) -> Batch:
        images, found = self.examples.load(records)
        ratio = self.options.ratios[int(drawing.of_round().integers(len(self.options.ratios)))]
        canvases, maps, rows = [], [], []
        size: HeightWidth | None = None
        for image, objects, rng in zip(images, found, drawing.of_items(), strict=False):
            image, objects = self._prepared(image, objects, ratio, rng)
            size = size or self.options.canvas(image.shape[1], image.shape[2], ratio)
            canvas, placed, place = self._laid_out(image, objects, size, rng)
            canvases.append(canvas)
            maps.append(self.options.labels.maps(placed, place, size))
            rows.append(placed.rows)
        tops = [np.stack(each) for each in zip(*maps, strict=True)]
        if self.options.boxes is not None:
            tops.append(self.options.boxes(rows))
        first, *more = tops or [np.zeros(len(images), np.float32)]
        return Batch(np.stack(canvases), first, None, more)

    def _prepared(
        self, image: Image, objects: Objects, ratio: float, rng: np.random.Generator
    ) -> tuple[Image, Objects]:
        """The image with its colors changed, mirrored, and resized."""
        if self.options.distort is not None:
            image = distorted(image, self.options.distort.draw(rng))
        if self.transform.mirror and rng.random() < 0.5:
            image, width = image[:, :, ::-1], image.shape[2]
            rows = objects.rows.copy()
            rows[:, CORNERS] = mirror_corners(rows[:, CORNERS], width)
            objects = Objects(rows, mirror_corners(objects.regions, width))
        _, height, width = image.shape
        size = self.options.resize(height, width, ratio)
        if size == (height, width):
            return image, objects
        scaled = move(objects, (size[0] / height, size[1] / width), (0, 0))
        return resize(np.ascontiguousarray(image), *size), scaled

    def _laid_out(
        self, image: Image, objects: Objects, canvas: HeightWidth, rng: np.random.Generator
    ) -> tuple[Floats, Objects, Place]:
        """The canvas (C, H, W) with the image on it, what is on it, and where the image lies."""
        chosen = objects.rows[rng.integers(len(objects.rows))] if len(objects.rows) else None
        center: tuple[float, ...]
        if chosen is not None:
            center = ((chosen[4] + chosen[6]) / 2, (chosen[3] + chosen[5]) / 2)
        else:
            center = tuple(
                n / 2 if side > n else int(rng.integers(n - side + 1)) + side / 2
                for n, side in zip(image.shape[1:], canvas, strict=True)
            )
        factors = self.options.rescale(chosen, rng)
        if factors != (1, 1):
            image, objects, center = _rescaled(image, objects, center, factors)
        spots = [
            _spot(n, side, middle, int(rng.integers(-_NOISE, _NOISE)))
            for n, side, middle in zip(image.shape[1:], canvas, center, strict=True)
        ]
        (from_y, to_y, high), (from_x, to_x, wide) = spots
        placed = move(objects, (1, 1), (to_y - from_y, to_x - from_x))
        self._ignore(placed.rows, canvas)
        part = image[:, from_y : from_y + high, from_x : from_x + wide].astype(np.float32)
        if len(self.transform.mean_values):
            part -= self.transform.mean_values
        out = np.zeros((len(image), *canvas), np.float32)
        out[:, to_y : to_y + high, to_x : to_x + wide] = part * np.float32(
            self.transform.scale * self.options.scale
        )
        return out, placed, Place(to_y, to_x, high, wide)

    def _ignore(self, rows: Floats, canvas: HeightWidth) -> None:
        """Ignore objects whose centers are beyond the canvas, and small ones."""
        boxes = rows[:, CORNERS]
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = boxes[:, 2:] - boxes[:, :2] + 1
        limits = np.array(canvas[::-1], np.float32)
        least = np.array(self.options.least[::-1], np.float32)
        bad = (center < 0) | (center >= limits) | (size < least)
        rows[bad.any(1), IGNORE] = 1


def _rescaled(
    image: Image, objects: Objects, center: tuple[float, ...], factors: tuple[float, float]
) -> tuple[Image, Objects, tuple[float, ...]]:
    """The image scaled; of one that grows much only the part about the center."""
    _, height, width = image.shape
    if max(factors) > _LARGE_FACTOR:
        starts = []
        for n, factor, middle in zip((height, width), factors, center, strict=True):
            kept = min(nearest(_KEPT * n / factor), n)
            start = min(max(0, nearest(max(0.0, middle - kept / 2))), n - kept)
            starts.append((start, kept))
        (top, high), (left, wide) = starts
        image = image[:, top : top + high, left : left + wide]
        objects = move(objects, (1, 1), (-top, -left))
        center = (center[0] - top, center[1] - left)
        height, width = high, wide
    size = tuple(max(1, nearest(n * f)) for n, f in zip((height, width), factors, strict=True))
    scaled = resize(np.ascontiguousarray(image), *size)
    center = tuple(c * f for c, f in zip(center, factors, strict=True))
    return scaled, move(objects, factors, (0, 0)), center


def _spot(size: int, side: int, center: float, noise: int) -> tuple[int, int, int]:
    """Along one axis, where the part of the image begins, where on the canvas, and how long."""
    if size < side:
        return 0, min(max(0, nearest((side - size) / 2) + noise), side - size), size
    start = int(np.floor(center + 0.5)) + noise - nearest(side / 2)
    return min(max(0, start), size - side), 0, side
