"""Image files and their labels, named in a list, to a database of Datum records."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import cv2
import numpy as np

from moka.command.run import run
from moka.data import datum
from moka.data.ahead import map_ahead
from moka.data.decode import Decode, Decoder, Image
from moka.data.fit_size import FITS
from moka.data.images import (
    decode_file,
    parse_line,
    read_file,
    read_image_lines,
    warn_of_odd_labels,
)
from moka.data.store import make_store
from moka.errors import DataError, UsageError, did_you_mean
from moka.files import local_path
from moka.report.progress import progress
from moka.schema import caffe_pb2
from moka.types import PathLike

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

SAY_EVERY = 1000  # records
INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True)
class StoredForm:
    """How an image is stored.

    Attributes:
        color: three channels in BGR order; else one, gray.
        height, width: pixels to resize to; only if both are more than 0.
        resize_mode: how, a key of `FITS`.
        encoded: as an image file instead of raw bytes.
        encode_type: of that file, such as "png"; "" is the type of the source. It implies encoded.
    """

    color: bool = True
    height: int = 0
    width: int = 0
    encoded: bool = False
    encode_type: str = ""
    resize_mode: str = "squash"

    def decoder(self) -> Decode:
        """A decoder that reads images in this form (color and size)."""
        if not (self.height > 0 and self.width > 0):
            return Decoder(color=self.color)
        if self.resize_mode == "squash":
            return Decoder(color=self.color, size=(self.height, self.width))
        read, fit = Decoder(color=self.color), FITS[self.resize_mode]
        return lambda data, name: fit(read(data, name), self.height, self.width)

    def converted(self, image: Image) -> Image:
        """A decoded image (C, H, W) in this form; a gray one stays gray."""
        if not self.color and len(image) == 3:
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
            image = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[None]
        if self.height > 0 and self.width > 0:
            image = FITS[self.resize_mode](image, self.height, self.width)
        return image


AS_IT_IS = StoredForm()


class UnreadableImageError(DataError):
    """A file that is missing or no image."""


class ImagesLeftOutError(DataError):
    """A database is complete, but for images that cannot be read."""


def make_datum(
    path: str, label: int, form: StoredForm, decode: Decode | None = None
) -> caffe_pb2.Datum:
    """The record of an image file.

    Args:
        decode: the form's `decoder`; None: a new one.

    The bytes of a file are stored as they are if it is to be encoded, of the wanted type already
    (by its name), and no size is asked for. A record of an encoded image holds no size.

    Raises:
        UnreadableImageError: the file is missing or no image.
        DataError: the image cannot be encoded as wanted.
    """
    try:
        data = read_file(path)
        image = decode_file(data, path, decode or form.decoder())
    except DataError as error:
        raise UnreadableImageError(error.message) from None
    if not form.encoded and not form.encode_type:
        return datum.encode(image, label)
    own_type = PurePath(path).suffix[1:].lower()
    wanted = form.encode_type.lower() or own_type
    if form.height > 0 or form.width > 0 or not _is_type(own_type, wanted):
        data = encode_image(image, wanted, path)
    return caffe_pb2.Datum(data=data, label=label, encoded=True)


def check_resize_mode(name: str) -> None:
    """Raises UsageError for a way to resize that there is not."""
    if name not in FITS:
        raise UsageError(
            f"-resize_mode has to be one of {', '.join(FITS)}, got {name}.",
            advice=did_you_mean(name, FITS),
        )


def _is_type(extension: str, wanted: str) -> bool:
    return extension == wanted or (extension == "jpeg" and wanted == "jpg")


def encode_image(image: Image, wanted: str, path: str) -> bytes:
    """An image as a file of a type, such as "png".

    Args:
        path: of the image, for the message.

    Raises:
        DataError: no such type, or none that holds this image.
    """
    try:
        done, data = cv2.imencode(f".{wanted}", image.transpose(1, 2, 0))
    except cv2.error:
        done = False
    if not done:
        raise DataError(
            f'{path}: the image cannot be encoded as "{wanted}".'
            if wanted
            else f"{path}: its name does not tell as what to encode it.",
            advice="Choose with -encode_type: png, jpg, bmp, ...",
        )
    return data.tobytes()


class Line(NamedTuple):
    """An image of a list: its line there, from 1, its path as it stands there, its label; and all
    its labels, if it may have several."""

    number: int
    path: str
    label: int
    labels: tuple[float, ...] = ()


def read_labeled(source: PathLike, label_count: int = 0) -> list[Line]:
    """All lines of a list, also empty ones, since they count in the keys.

    A label that is no integer is what C's atoi makes of it, as ever; a warning says so.

    Args:
        label_count: numbers after each path, of any kind; 0: Caffe's lines, one integer.

    Raises:
        DataError: missing, empty, a label beyond 32 bits, other than `label_count` labels.
    """
    lines = read_image_lines(source)
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            split = _split_labels(line, label_count) if label_count else parse_line(line)
            parsed.append(Line(number, *split))
            if parsed[-1].label not in INT32:
                raise DataError(f"label {parsed[-1].label} does not fit 32 bits.")
        except DataError as error:
            error.message = f"line {number}: {error.message}"
            raise error.at(file=source) from None
    if not label_count:
        warn_of_odd_labels(source, lines)
    return parsed


def _split_labels(line: str, count: int) -> tuple[str, int, tuple[float, ...]]:
    """Split off the numbers at the end of a line. An empty one names no image."""
    if not line.strip():
        return "", 0, ()
    path, *texts = line.rsplit(maxsplit=count)
    try:
        labels = tuple(map(float, texts))
    except ValueError:
        labels = ()
    if len(labels) != count or not all(map(math.isfinite, labels)):
        raise DataError(
            f'"{line}" is not a path and {count} number{"s" * (count > 1)}, with blanks between.'
        )
    return path, int(labels[0]), labels


class Converted(NamedTuple):
    """How many images became records, and how many could not be read."""

    records: int
    left_out: int


def convert_imageset(
    root_folder: str,
    list_file: PathLike,
    database: PathLike,
    *,
    form: StoredForm = AS_IT_IS,
    backend: str = "lmdb",
    shuffle: bool = False,
    seed: int | None = None,
    check_size: bool = False,
    label_count: int = 0,
    strict: bool = False,
) -> Converted:
    """Write a database of the images in a list, in the list's order or a random one.

    The key of an image is its place in that order, in eight digits, an underline and its path. An
    image that is missing or cannot be decoded is logged and leaves a gap, an empty line too.

    Args:
        root_folder: put before each path as it is, so a folder ends with a slash.
        list_file: on each line a path, a blank and an integer label; split at the last blank.
        backend: "lmdb" or "leveldb".
        seed: of the random order; None is another one each time.
        check_size: records of another size than the first are an error. An encoded one has none.
        label_count: beyond BVLC Caffe: each line has this many labels, which may be fractions. A
            Data layer gives them as (batch, label_count); BVLC Caffe reads the first, without its
            fraction. 0: one integer.
        strict: an image that cannot be read is an error.

    Raises:
        DataError: a list that is missing or empty, a folder that is missing, no image that can be
            read (in strict mode: one that cannot), sizes that differ, an existing database or one
            that cannot be written. No database is left then.
    """
    lines = read_labeled(list_file, label_count)
    folder = os.path.dirname(root_folder)
    if folder and not os.path.isdir(local_path(folder)):
        raise DataError(f"there is no folder {folder} with the images of the list.", file=list_file)
    if shuffle:
        log.info("Shuffling data")
        lines = [lines[i] for i in np.random.default_rng(seed).permutation(len(lines))]
    log.info("A total of %d images.", len(lines))
    if bool(form.height) != bool(form.width):
        log.warning("-resize_height and -resize_width go together: no image is resized.")
    if form.encode_type and not form.encoded:
        log.info("encode_type specified, assuming encoded=true.")

    decode = form.decoder()

    def make(line: Line) -> caffe_pb2.Datum | UnreadableImageError | None:
        if not line.path.strip():
            return None
        try:
            record = make_datum(root_folder + line.path, line.label, form, decode)
        except UnreadableImageError as error:
            error.message = f"line {line.number}: {error.message}"
            return error.at(file=list_file)
        record.labels.extend(line.labels)
        return record

    count = left_out = 0
    first: caffe_pb2.Datum | None = None
    with make_store(database, backend) as writer, progress("images", len(lines)) as show:
        for i, (line, record) in enumerate(zip(lines, map_ahead(make, lines), strict=True)):
            show(i + 1)
            if record is None:
                continue
            if isinstance(record, UnreadableImageError):
                if strict:
                    raise record
                left_out += 1
                log.error("Could not open or find file %s (%s)", root_folder + line.path, record)
                continue
            if first is None:
                first = record
            elif check_size:
                _check_size(record, first, line.path)
            writer.put(b"%08d_" % i + os.fsencode(line.path), record.SerializeToString())
            count += 1
            if count % SAY_EVERY == 0:
                detail.info("Processed %d files.", count)
        if not count:
            raise DataError(
                f"none of the {len(lines)} images in it can be read; the first would be"
                f" {root_folder}{lines[0].path}.",
                file=list_file,
                advice="Is ROOTFOLDER right, with a slash at its end?",
            )
    if count % SAY_EVERY:
        log.info("Processed %d files.", count)
    return Converted(count, left_out)


def _check_size(record: caffe_pb2.Datum, first: caffe_pb2.Datum, path: str) -> None:
    size = first.channels * first.height * first.width
    if len(record.data) == size:
        return
    fact = f"Incorrect data field size {len(record.data)}: {path}"
    if record.encoded:
        raise DataError(f"{fact} is encoded, and such a record has no size to check.")
    raise DataError(
        f"{fact} has (channels, height, width) {_shape(record)}, the first image {_shape(first)}.",
        advice="Give -resize_height and -resize_width, or leave out -check_size.",
    )


def _shape(record: caffe_pb2.Datum) -> tuple[int, int, int]:
    return record.channels, record.height, record.width


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe convert_imageset [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME`."""
    return run("convert_imageset", _convert, argv)


def classic(argv: Sequence[str] | None = None) -> int:
    """The program under its old name. Old scripts go on though images are left out: as BVLC's, it
    ends with 0 then."""

    def convert(words: list[str], flags: dict[str, Any]) -> None:
        try:
            _convert(words, flags)
        except ImagesLeftOutError as error:
            log.warning("%s", error)

    return run("convert_imageset", convert, argv)


def _convert(words: list[str], flags: dict[str, Any]) -> None:
    root_folder, list_file, database = words
    check_resize_mode(flags["resize_mode"])
    if flags["label_count"] < 0:
        raise UsageError(f"-label_count has to be >= 0, got {flags['label_count']}.")
    converted = convert_imageset(
        root_folder,
        list_file,
        database,
        form=StoredForm(
            color=not flags["gray"],
            height=flags["resize_height"],
            width=flags["resize_width"],
            encoded=flags["encoded"],
            encode_type=flags["encode_type"],
            resize_mode=flags["resize_mode"],
        ),
        backend=flags["backend"],
        shuffle=flags["shuffle"],
        seed=flags["seed"] if flags["seed"] >= 0 else None,
        check_size=flags["check_size"],
        label_count=flags["label_count"],
        strict=flags["strict"],
    )
    if converted.left_out:
        raise ImagesLeftOutError(
            f"{converted.left_out} of {sum(converted)} images are left out, since they cannot be"
            f" read; {database} holds the others.",
            file=list_file,
        )
