"""Image files, and the lists that name them with their labels."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from moka.data.batches import Loaded
from moka.data.decode import Decode, Decoder, Image
from moka.data.lists import read_lines
from moka.data.order import example_indices, in_groups
from moka.errors import DataError
from moka.files import read_bytes
from moka.types import PathLike

log = logging.getLogger("moka")

SOURCE_ADVICE = (
    "`source` is a list (the path and the label of an image on each line), a folder with a"
    " subfolder for each class, or tar files; relative names start at the current directory."
)
IMAGE_SUFFIXES = frozenset({"bmp", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp"})


def read_image(
    path: PathLike, *, color: bool | None = None, size: tuple[int, int] | None = None
) -> Image:
    """Read an image file as (C, H, W) uint8.

    Args:
        color, size: see `Decoder`.

    Raises:
        DataError: the file is missing or is no image.
    """
    return decode_file(read_file(path), path, Decoder(color=color, size=size))


def read_file(path: PathLike) -> bytes:
    """The bytes of an image file. Raises DataError if it cannot be read, or is empty."""
    try:
        data = read_bytes(path)
    except OSError as error:
        raise DataError(f"Could not load {os.fspath(path)}: {error.strerror}.") from None
    if not data:
        raise DataError(f"Could not load {os.fspath(path)}: the file is empty.")
    return data


def decode_file(data: bytes, path: PathLike, decode: Decode) -> Image:
    """The image in a file's bytes. Raises DataError with the file's name."""
    try:
        return decode(data, os.fspath(path))
    except DataError as error:
        error.message = f"Could not load {os.fspath(path)}: {error.message}"
        raise


class Labeled(NamedTuple):
    """An image file: its path and label as written in its list, and the number of its line there,
    from 1 (0: no list)."""

    path: str
    label: int
    line: int = 0


def parse_line(line: str) -> tuple[str, int]:
    """Split a line into path and label at its last blank; blanks at the end of the line do not
    count.

    The label is what C's atoi makes of the text (no digits: 0). A line without a blank is path and
    label in one.
    """
    line = line.rstrip(" \t\r")
    path, blank, label = line.rpartition(" ")
    digits = re.match(r"\s*([+-]?[0-9]{1,18})", label)  # more is no label, and too much for int
    return path if blank else line, int(digits[1]) if digits else 0


def line_advice(name: str) -> str | None:
    """What to do about a line whose name no file has, if a file has its beginning: the name and
    what follows it are divided otherwise, several labels follow, or the name is in quotes."""
    plain = name.replace('"', "")
    ends = [found.start() for found in re.finditer(r"[\s,;]", plain)]
    parts = (plain[:end] for end in (*ends, len(plain)))
    there = next((part for part in parts if part != name and os.path.isfile(part)), None)
    if there is None or os.path.exists(name):
        return None
    return (
        f"{there} is there: a line is a name without quotes, one blank and one label, a whole"
        " number. Several labels an image go into a database (convert_imageset -label_count)."
    )


def warn_of_odd_labels(source: PathLike, lines: Sequence[str]) -> None:
    """Say which line of a list is the first without an integer label, and how many there are.

    `parse_line` reads such text as BVLC Caffe does, most often as label 0.
    """
    odd = [i for i, line in enumerate(lines) if line and not re.search(r" \s*[+-]?\d+\s*$", line)]
    if not odd:
        return
    log.warning(
        '%s: line %d, "%s", does not end with a blank and an integer label, so its label is %d%s.',
        source,
        odd[0] + 1,
        lines[odd[0]],
        parse_line(lines[odd[0]])[1],
        f"; there are {len(odd)} such lines" if len(odd) > 1 else "",
    )


def read_image_lines(source: PathLike, *, advice: str) -> list[str]:
    """The lines of a list of images, see `moka.data.lists.read_lines`.

    Args:
        advice: what the file has to be, if it cannot be read.

    Raises:
        DataError: missing, or without a line that is not empty.
    """
    try:
        lines = read_lines(source)
    except OSError as error:
        raise DataError(f"{error.strerror}.", file=source, advice=advice) from None
    if not any(lines):
        raise DataError("File is empty: the list names no image.", file=source)
    return lines


def read_image_list(source: PathLike) -> list[Labeled]:
    """The images in a list file: on each line a path, one blank, and a label.

    Lines without an integer label are warned of.

    Raises:
        DataError: missing or empty.
    """
    lines = read_image_lines(source, advice=SOURCE_ADVICE)
    warn_of_odd_labels(source, lines)
    return [Labeled(*parse_line(line), k) for k, line in enumerate(lines, 1) if line]


class ImageFiles:
    """Image files and their labels, over and over.

    Args:
        path: the list or folder that they were found in.
        files: there is at least one.
        decode: makes an image of a file's bytes.
        root_folder: prefix of each path; no slash is added.
        shuffle: a new order in each epoch, by the seed.
        group: so many neighbors stay together when shuffled; those left over at the end are not
            used then.
    """

    noun = "image"

    def __init__(
        self,
        path: PathLike,
        files: Sequence[Labeled],
        decode: Decode,
        *,
        root_folder: str = "",
        shuffle: bool = False,
        group: int = 1,
    ) -> None:
        if shuffle and len(files) < group:
            raise DataError(
                f"its {len(files)} images are less than one group of {group}.", file=path
            )
        self.path = path
        self.files = files[: len(files) // group * group] if shuffle else files
        self.arrange = partial(in_groups, size=group) if group > 1 else None
        self.decode = decode
        self.root_folder = root_folder
        self.shuffle = shuffle

    def __len__(self) -> int:
        return len(self.files)

    def name(self, record: Labeled) -> str:
        return self.root_folder + record.path

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[Labeled]:
        order = example_indices(
            len(self), start, step, shuffle=self.shuffle, seed=seed, arrange=self.arrange
        )
        return (self.files[i] for i in order)

    def load(self, records: Sequence[Labeled]) -> Loaded:
        return Loaded([self._read(r) for r in records], [r.label for r in records])

    def _read(self, record: Labeled) -> Image:
        name = self.name(record)
        try:
            return decode_file(read_file(name), name, self.decode)
        except DataError as error:
            if record.line:
                error.message = f"line {record.line}: {error.message}"
                error.advice = error.advice or line_advice(name)
            raise error.at(file=self.path) from None


class ImageList(ImageFiles):
    """What an ImageData layer reads: the images of a list file.

    Args:
        source: the list file.
        decode, root_folder, shuffle, group: see ImageFiles.

    Raises:
        DataError: a list that is missing or empty.
    """

    def __init__(
        self,
        source: PathLike,
        decode: Decode,
        *,
        root_folder: str = "",
        shuffle: bool = False,
        group: int = 1,
    ) -> None:
        files = read_image_list(source)
        super().__init__(
            source, files, decode, root_folder=root_folder, shuffle=shuffle, group=group
        )

    def notes(self) -> list[str]:
        """No lines beyond Caffe's own."""
        return []

    def later_files(self) -> list[str]:
        """The images: a list may name missing files."""
        return [self.name(file) for file in self.files]
