"""Lists of images and the objects on them, as MS-CNN and Cascade R-CNN write them.

A list has a block for each image: `# index`, the path, channels, height, width; the number of
objects, and for each label, ignore (0 or 1), in Cascade R-CNN's lists difficult (0 or 1), and
corners x1 y1 x2 y2 in pixels; the number of regions of no interest, and for each its corners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from moka.data.batches import Loaded
from moka.data.decode import Decoder, Image
from moka.data.images import decode_file, read_file
from moka.data.order import Arrange, example_indices
from moka.errors import DataError
from moka.files import read_text_file
from moka.types import Floats, PathLike, Shape

FORM = (
    "A block is: # index, path (without blanks), channels, height, width, number of objects, for"
    " each label ignore{} x1 y1 x2 y2, number of regions, for each x1 y1 x2 y2."
)


@dataclass(frozen=True)
class Objects:
    """What is on an image.

    Attributes:
        rows: (G, 7), label, ignore, difficult, x1, y1, x2, y2.
        regions: (R, 4), corners of regions of no interest.
    """

    rows: Floats
    regions: Floats


class ListedImage(NamedTuple):
    """An image of a list: its path as written, its shape (C, H, W) as listed, its objects."""

    path: str
    shape: Shape
    objects: Objects


def read_object_list(source: PathLike, *, with_difficult: bool) -> list[ListedImage]:
    """Read a list.

    Args:
        with_difficult: whether objects say if they are difficult.

    Raises:
        DataError: missing, empty, or not of this form; the image's block is named.
    """
    images: list[ListedImage] = []
    try:
        words = iter(read_text_file(source).split())
        for mark in words:
            images.append(_read_block(mark, words, len(images), with_difficult))
    except OSError as error:
        raise DataError(
            f"{error.strerror}.",
            file=source,
            advice="`source` is a text file with the images and their objects.",
        ) from None
    except DataError as error:
        raise error.at(file=source) from None
    if not images:
        raise DataError("Window file is empty.", file=source)
    return images


def _read_block(mark: str, words: Iterator[str], number: int, with_difficult: bool) -> ListedImage:
    try:
        if mark != "#":
            raise ValueError(f'"{mark}" where "#" was expected')
        _, path = _some(words, 2)
        channels, height, width = (int(word) for word in _some(words, 3))
        rows = _table(words, 7 if with_difficult else 6)
        regions = _table(words, 4)
        if not with_difficult:
            rows = np.insert(rows, 2, 0, axis=1)
        if (rows[:, 0] <= 0).any():
            raise ValueError("labels are above 0, which is the background")
    except ValueError as error:
        raise DataError(
            f"the block of image {number} cannot be read: {error}.",
            advice=FORM.format(" difficult" if with_difficult else ""),
        ) from None
    return ListedImage(path, (channels, height, width), Objects(rows, regions))


def _some(words: Iterator[str], count: int) -> list[str]:
    found = list(islice(words, count))
    if len(found) < count:
        raise ValueError("the file ends within it")
    return found


def _table(words: Iterator[str], columns: int) -> Floats:
    """A number of rows, and then these rows."""
    (count,) = (int(word) for word in _some(words, 1))
    if count < 0:
        raise ValueError(f"a count of {count}")
    with np.errstate(over="ignore"):
        table = np.array(_some(words, count * columns), np.float32).reshape(count, columns)
    if not np.isfinite(table).all():
        raise ValueError("numbers have to be finite")
    return table


class ObjectFiles:
    """The images of a list and their objects, over and over.

    Args:
        path: the list.
        with_difficult: see `read_object_list`.
        root_folder: prefix of each path; no slash is added.
        shuffle: a new order in each epoch, by the seed.
        arrange: see `moka.data.order.example_indices`; given the images.
        foreground_times: how often an image with an object that is not to be ignored comes in an
            epoch.

    Raises:
        DataError: as `read_object_list`.
    """

    noun = "image"

    def __init__(
        self,
        path: PathLike,
        *,
        with_difficult: bool,
        root_folder: str = "",
        shuffle: bool = False,
        arrange: Callable[[Sequence[ListedImage]], Arrange | None] = lambda images: None,
        foreground_times: int = 1,
    ) -> None:
        self.path = path
        self.images = [
            image
            for image in read_object_list(path, with_difficult=with_difficult)
            for _ in range(foreground_times if (image.objects.rows[:, 1] == 0).any() else 1)
        ]
        self.root_folder = root_folder
        self.shuffle = shuffle
        self.arrange = arrange(self.images)
        self.decode = Decoder(color=True)

    def __len__(self) -> int:
        return len(self.images)

    def name(self, record: ListedImage) -> str:
        return self.root_folder + record.path

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[ListedImage]:
        order = example_indices(
            len(self), start, step, shuffle=self.shuffle, seed=seed, arrange=self.arrange
        )
        return (self.images[i] for i in order)

    def load(self, records: Sequence[ListedImage]) -> Loaded:
        """The images, and for each its Objects."""
        return Loaded([self._read(r) for r in records], [r.objects for r in records])

    def _read(self, record: ListedImage) -> Image:
        name = self.name(record)
        try:
            return decode_file(read_file(name), name, self.decode)
        except DataError as error:
            raise error.at(file=self.path) from None

    def later_files(self) -> list[str]:
        """The images: a list may name missing files."""
        return list(dict.fromkeys(self.name(image) for image in self.images))

    def notes(self) -> list[str]:
        """The lines of the fork's log about the list."""
        labels = np.concatenate([image.objects.rows[:, 0] for image in self.images])
        found, counts = np.unique(labels.astype(int), return_counts=True)
        return [
            f"Number of images: {len(self)}",
            "class 0 has 0 samples",
            *(f"class {k} has {n} samples" for k, n in zip(found, counts, strict=True)),
        ]
