"""Image files, and the lists that name them with their labels."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from moka.data.batches import ORDER, Loaded, generator
from moka.data.datum import Image, decode_image
from moka.errors import DataError

PathLike = str | os.PathLike[str]


def read_image(path: PathLike, *, color: bool, height: int = 0, width: int = 0) -> Image:
    """An image file as (C, H, W) uint8: three channels in BGR order, or one if not `color`.

    Args:
        height, width: resize to this many pixels; 0 keeps the size of the file.

    Raises:
        DataError: the file is missing or is no image.
    """
    return load_image(read_file(path), path, color=color, height=height, width=width)


def read_file(path: PathLike) -> bytes:
    """The bytes of an image file. Raises DataError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"Could not load {os.fspath(path)}: {error.strerror}.") from None


def load_image(
    data: bytes, path: PathLike, *, color: bool, height: int = 0, width: int = 0
) -> Image:
    """As `read_image`, of a file whose bytes are there already."""
    try:
        image = decode_image(data, force_color=color, force_gray=not color)
    except DataError as error:
        error.message = f"Could not load {os.fspath(path)}: {error.message}"
        raise
    return resize(image, height, width) if height and width else image


def resize(image: Image, height: int, width: int) -> Image:
    """(C, H, W) to (C, height, width): bilinear, half-pixel centres, no smoothing."""
    import cv2

    resized = cv2.resize(image.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_LINEAR)
    return resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)


class ListLine(NamedTuple):
    """One image of a list: its path as it stands there, and its label."""

    path: str
    label: int


def parse_line(line: str) -> ListLine:
    """Split at the last blank; the label is what C's atoi makes of the rest (no digits: 0).

    A line without a blank is path and label in one.
    """
    path, blank, label = line.rpartition(" ")
    digits = re.match(r"\s*([+-]?[0-9]+)", label)
    return ListLine(path if blank else line, int(digits[1]) if digits else 0)


def read_lines(source: PathLike) -> list[str]:
    """The lines of a list file, empty ones too; bytes that are not UTF-8 come back by os.fsencode.

    Raises:
        DataError: missing, or without a line that is not empty.
    """
    try:
        text = Path(source).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(
            f"{error.strerror}.",
            file=source,
            advice="It is a text file with the path and the label of an image on each line.",
        ) from None
    lines = text.removesuffix("\n").split("\n")
    if not any(lines):
        raise DataError("File is empty: the list names no image.", file=source)
    return lines


def read_list(source: PathLike) -> list[ListLine]:
    """The images in a list file: on each line a path, one blank, and a label.

    Raises:
        DataError: missing or empty.
    """
    return [parse_line(line) for line in read_lines(source) if line]


class ImageList:
    """What an ImageData layer reads: the images of a list file, over and over.

    Args:
        source: the list file.
        root_folder: put before each path as it is.
        shuffle: a new order in each epoch, by the seed.
        color: three channels; else one.
        height, width: resize to this many pixels; 0 keeps the size of the file.
    """

    noun = "image"

    def __init__(
        self,
        source: PathLike,
        *,
        root_folder: str = "",
        shuffle: bool = False,
        color: bool = True,
        height: int = 0,
        width: int = 0,
    ) -> None:
        self.path = source
        self.lines = read_list(source)
        self.root_folder = root_folder
        self.shuffle = shuffle
        self.color = color
        self.height = height
        self.width = width

    def __len__(self) -> int:
        return len(self.lines)

    def name(self, record: ListLine) -> str:
        return self.root_folder + record.path

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[ListLine]:
        first, at = divmod(start, len(self))
        for epoch in itertools.count(first):
            for i in self._order(epoch, seed)[at::step]:
                yield self.lines[i]
            at = (at - len(self)) % step

    def _order(self, epoch: int, seed: int | None) -> Sequence[int]:
        if not self.shuffle:
            return range(len(self))
        return generator(seed, ORDER, epoch).permutation(len(self)).tolist()

    def load(self, records: Sequence[ListLine]) -> Loaded:
        return Loaded([self._read(r) for r in records], [r.label for r in records])

    def _read(self, record: ListLine) -> Image:
        try:
            return read_image(
                self.name(record), color=self.color, height=self.height, width=self.width
            )
        except DataError as error:
            raise error.at(file=self.path) from None
