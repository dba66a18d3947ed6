"""Batches of resized images with their objects, for testing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.data.batches import Drawing, Examples, ImageBatches, Loaded
from moka.data.decode import resize
from moka.data.object_canvas import move
from moka.data.object_lists import ListedImage
from moka.data.place import CursorState
from moka.data.transform import Draw, Transform
from moka.types import Floats, HeightWidth, Shape


class ObjectImageBatches(ImageBatches[ListedImage]):
    """Batches of images; their boxes, and the sizes of the images (N, 2, 1, 1).

    Args:
        resize: from the height and width of an image to what it is resized to.
        boxes: makes a table of the rows of each image.
        examples, transform, batch_size, start: see ImageBatches.
    """

    def __init__(
        self,
        examples: Examples[ListedImage],
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        resize: Callable[[int, int], HeightWidth],
        boxes: Callable[[Sequence[Floats]], Floats],
    ) -> None:
        self.resize = resize
        self.boxes = boxes
        super().__init__(examples, transform, batch_size=batch_size, start=start)

    def prepared(self, records: Sequence[ListedImage], loaded: Loaded, drawing: Drawing) -> Loaded:
        """The images, resized, and the objects of each."""
        images, found = [], []
        for image, objects in zip(*loaded, strict=True):
            _, height, width = image.shape
            size = self.resize(height, width)
            images.append(image if size == (height, width) else resize(image, *size))
            found.append(move(objects, (size[0] / height, size[1] / width), (0, 0)))
        return Loaded(images, found)

    def answers(
        self, labels: Sequence[Any] | NDArray[np.float32], shapes: Sequence[Shape], draw: Draw
    ) -> list[Floats]:
        sizes = np.array([shape[1:] for shape in shapes], np.float32)[:, :, None, None]
        return [self.boxes([objects.rows for objects in labels]), sizes]
