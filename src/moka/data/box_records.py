"""Images with boxes around their objects, as YOLO's first ports to Caffe store them: Datum records
whose `float_data` holds class, difficult, center x, center y, width and height of each object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.data.batches import Drawing, ImageBatches, Loaded
from moka.data.datum import parse
from moka.data.decode import Image, resize
from moka.data.place import CursorState
from moka.data.records import DatumRecords, KeyValue
from moka.data.transform import Draw, Transform
from moka.errors import DataError, MokaError
from moka.types import Floats, Shape

NUMBERS = 6  # of an object: class, difficult, x, y, width, height as parts of the image
MOST_BOXES = 30  # of an image in YOLOv2's form
_TRIES = 50  # to find a part of an image that has an object
_LEAST_PART = 0.7  # of the image's width and height

Table = Callable[[Sequence[Floats]], Floats]  # of the objects (G, 6) of each image


def list_of_boxes(images: Sequence[Floats]) -> Floats:
    """YOLOv2's form, (N, 150): class, x, y, width, height of up to 30 objects, then zeros."""
    table = np.zeros((len(images), MOST_BOXES, 5), np.float32)
    for target, rows in zip(table, images, strict=True):
        kept = rows[:MOST_BOXES]
        target[: len(kept)] = kept[:, [0, 2, 3, 4, 5]]
    return table.reshape(len(images), -1)


def map_of_boxes(images: Sequence[Floats], side: int) -> Floats:
    """YOLOv1's form, (N, 7 L) for L = side x side cells: difficult (L), whether there is an object
    (L), its class or -1 (L), its box (L, 4). Of several in a cell the last counts."""
    cells = side * side
    table = np.zeros((len(images), 7 * cells), np.float32)
    table[:, 2 * cells : 3 * cells] = -1
    for target, rows in zip(table, images, strict=True):
        spots = np.minimum(np.floor(rows[:, 2:4] * side), side - 1).clip(0).astype(int)
        for row, (x, y) in zip(rows, spots, strict=True):
            cell = side * y + x
            target[[cell, cells + cell, 2 * cells + cell]] = row[1], 1, row[0]
            target[3 * cells + 4 * cell :][:4] = row[2:]
    return table


class BoxRecords(DatumRecords):
    """The records of a store in key order, in an endless loop."""

    def load(self, records: Sequence[KeyValue]) -> Loaded:
        """The images, and for each its objects (G, 6)."""
        images, objects = zip(*map(self._read, records), strict=True)
        return Loaded(images, objects)

    def _read(self, record: KeyValue) -> tuple[Image, Floats]:
        try:
            datum = parse(record[1])
        except MokaError as error:
            raise self.at(record, error) from None
        values = np.array(datum.float_data, np.float32)
        if not datum.data or len(values) % NUMBERS:
            fault = DataError(
                f"an image and {NUMBERS} numbers for each of its objects were expected, found"
                f" {len(datum.data)} bytes and {len(values)} numbers."
            )
            raise self.at(record, fault)
        return self._decode(record, datum, datum.data), values.reshape(-1, NUMBERS)


class BoxBatches(ImageBatches[KeyValue]):
    """Batches of images, and of their boxes in one form or several.

    In training a random part of each image, 0.71 to 1 of its width and height, is stretched to the
    size of the image; it keeps the objects whose centers are in it, and one at least. A mirrored
    image has mirrored boxes.

    Args:
        tables: make a top each.
        examples, transform, batch_size, start: see ImageBatches.
    """

    def __init__(
        self,
        examples: BoxRecords,
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        tables: Sequence[Table],
    ) -> None:
        self.tables = tables
        super().__init__(examples, transform, batch_size=batch_size, start=start)

    def prepared(self, records: Sequence[KeyValue], loaded: Loaded, drawing: Drawing) -> Loaded:
        """In training the parts, and what is on them."""
        if not self.transform.training:
            return loaded
        parts = [_part(*each) for each in zip(*loaded, drawing.of_items(), strict=False)]
        return Loaded([image for image, _ in parts], [rows for _, rows in parts])

    def answers(
        self, labels: Sequence[Any] | NDArray[np.float32], shapes: Sequence[Shape], draw: Draw
    ) -> list[Floats]:
        objects = []
        for rows, mirrored in zip(labels, draw.mirror, strict=True):
            kept = rows.copy()
            if mirrored:
                kept[:, 2] = 1 - kept[:, 2]
            objects.append(kept)
        return [table(objects) for table in self.tables]


def _part(image: Image, rows: Floats, rng: np.random.Generator) -> tuple[Image, Floats]:
    """A random part of an image, stretched to its size, and the objects on it."""
    _, height, width = image.shape
    for _ in range(_TRIES if len(rows) else 0):
        scale = rng.integers(int(100 * _LEAST_PART) + 1, 101) / 100
        wide, high = max(1, int(width * scale)), max(1, int(height * scale))
        left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
        low = np.array([left / width, top / height], np.float32)
        size = np.array([wide / width, high / height], np.float32)
        center = rows[:, 2:4]
        inside = np.logical_and.reduce((center >= low) & (center < low + size), axis=1)
        if inside.any():
            kept = rows[inside].copy()
            kept[:, 2:4] = (kept[:, 2:4] - low) / size
            kept[:, 4:6] /= size
            return resize(image[:, top : top + high, left : left + wide], height, width), kept
    return image, rows
