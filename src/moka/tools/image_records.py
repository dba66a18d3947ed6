"""Image files as records of a database: in which form, from which lines of a list, and how they are
stored."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import cv2
import numpy as np

from moka.command.run import CommandFunction
from moka.data import datum
from moka.data.ahead import map_ahead
from moka.data.decode import Decode, Decoder, Image
from moka.data.fit_size import FITS, bounded
from moka.data.images import decode_file, read_file
from moka.data.writer import RecordWriter
from moka.errors import DataError, UsageError, did_you_mean
from moka.files import local_path
from moka.report.progress import progress
from moka.schema import caffe_pb2
from moka.types import PathLike

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

SAY_EVERY = 1000  # records
INT32 = range(-(2**31), 2**31)  # of labels


@dataclass(frozen=True)
class StoredForm:
    """How an image is stored.

    Attributes:
        color: three channels in BGR order; else one, gray.
        height, width: pixels to resize to; only if both are more than 0.
        resize_mode: how, a key of `FITS`.
        min_dim, max_dim: SSD's bounds of the shorter and the longer side in pixels, see `bounded`;
            if one of them is more than 0, height and width do not count.
        encoded: as an image file instead of raw bytes.
        encode_type: of that file, such as "png"; "" is the type of the source. It implies encoded.
    """

    color: bool = True
    height: int = 0
    width: int = 0
    encoded: bool = False
    encode_type: str = ""
    resize_mode: str = "squash"
    min_dim: int = 0
    max_dim: int = 0

    @property
    def is_bounded(self) -> bool:
        return self.min_dim > 0 or self.max_dim > 0

    @property
    def asks_for_size(self) -> bool:
        return self.is_bounded or self.height > 0 or self.width > 0

    def decoder(self) -> Decoder:
        """A decoder that reads images in this form's color."""
        return Decoder(color=self.color)

    def fitted(self, image: Image) -> Image:
        """A decoded image (C, H, W) in this form's size."""
        if self.is_bounded:
            return bounded(image, self.min_dim, self.max_dim)
        if self.height > 0 and self.width > 0:
            return FITS[self.resize_mode](image, self.height, self.width)
        return image

    def converted(self, image: Image) -> Image:
        """A decoded image (C, H, W) in this form; a gray one stays gray."""
        if not self.color and len(image) == 3:
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
            image = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[None]
        return self.fitted(image)

    def tell(self) -> None:
        """Log what is asked for without effect, and what is implied."""
        if self.is_bounded and (self.height > 0 or self.width > 0):
            log.warning("-min_dim and -max_dim win over -resize_height and -resize_width.")
        elif bool(self.height) != bool(self.width):
            log.warning("-resize_height and -resize_width go together: no image is resized.")
        if self.encode_type and not self.encoded:
            log.info("encode_type specified, assuming encoded=true.")


AS_IT_IS = StoredForm()


class UnreadableImageError(DataError):
    """A file that is missing or no image."""


class ImagesLeftOutError(DataError):
    """A database is complete, but for images that cannot be read."""


class Line(NamedTuple):
    """An image of a list.

    Attributes:
        number: of its line there, from 1.
        path: as it stands there.
        label: its label.
        labels: all of them, if it may have several.
        annotation: the file that says what is on it, if the list names one.
    """

    number: int
    path: str
    label: int
    labels: tuple[float, ...] = ()
    annotation: str = ""


class Record(NamedTuple):
    """What an image becomes.

    Attributes:
        message: what is stored.
        image: the Datum of its image: `message` itself, or a part of it.
        warnings: what the log says of it.
    """

    message: caffe_pb2.Datum | caffe_pb2.AnnotatedDatum
    image: caffe_pb2.Datum
    warnings: Sequence[str] = ()


class Converted(NamedTuple):
    """How many images became records, and how many could not be read."""

    records: int
    left_out: int


def load_image(path: str, decode: Decode) -> tuple[bytes, Image]:
    """The bytes of an image file, and the image. Raises UnreadableImageError."""
    try:
        data = read_file(path)
        return data, decode_file(data, path, decode)
    except DataError as error:
        raise UnreadableImageError(error.message) from None


def datum_of(image: Image, data: bytes, path: str, label: int, form: StoredForm) -> caffe_pb2.Datum:
    """The record of an image that has the form's color and size.

    Args:
        data: the bytes of its file. They are stored as they are if the image is to be encoded, of
            the wanted type already (by the file's name), and no size is asked for. A record of an
            encoded image holds no size.

    Raises:
        DataError: the image cannot be encoded as wanted.
    """
    if not form.encoded and not form.encode_type:
        raw = datum.encode(image, label)
        raw.encoded = False  # said in so many words, as Caffe's records do
        return raw
    own_type = PurePath(path).suffix[1:].lower()
    wanted = form.encode_type.lower() or own_type
    if form.asks_for_size or not _is_type(own_type, wanted):
        data = encode_image(image, wanted, path)
    return caffe_pb2.Datum(data=data, label=label, encoded=True)


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


def check_folder(root_folder: str, list_file: PathLike) -> None:
    """Raises DataError if the folder with the images of a list is missing."""
    folder = os.path.dirname(root_folder)
    if folder and not os.path.isdir(local_path(folder)):
        raise DataError(f"there is no folder {folder} with the images of the list.", file=list_file)


def in_order(lines: list[Line], *, shuffle: bool, seed: int | None) -> list[Line]:
    """The lines as they are, or in a random order; logs how many there are.

    Args:
        seed: of the random order; None is another one each time.
    """
    if shuffle:
        log.info("Shuffling data")
        lines = [lines[i] for i in np.random.default_rng(seed).permutation(len(lines))]
    log.info("A total of %d images.", len(lines))
    return lines


def store_images(
    lines: Sequence[Line],
    make: Callable[[Line], Record],
    writer: RecordWriter,
    *,
    root_folder: str,
    list_file: PathLike,
    check_size: bool = False,
    strict: bool = False,
    failure: str = "",
) -> Converted:
    """Write a new database with a record for each line; threads make the records.

    The key of an image is its place among the lines, in eight digits, an underline and its path. An
    image that cannot be read is logged and leaves a gap, an empty line too.

    Args:
        make: the record of a line; its UnreadableImageError leaves the image out.
        root_folder: stands before each path.
        list_file: where the lines stand.
        check_size: an image of another size than the first is an error.
        strict: an image that cannot be read is an error.
        failure: one more line of the log for such an image, with its path as %s.

    Raises:
        DataError: no image can be read, and what `make` and the writer raise. No database is left
            then.
    """

    def tried(line: Line) -> Record | UnreadableImageError | None:
        if not line.path.strip():
            return None
        try:
            return make(line)
        except UnreadableImageError as error:
            error.message = f"line {line.number}: {error.message}"
            return error.at(file=list_file)

    count = left_out = 0
    first: caffe_pb2.Datum | None = None
    with writer, progress("images", len(lines)) as show:
        for i, (line, record) in enumerate(zip(lines, map_ahead(tried, lines), strict=True)):
            show(i + 1)
            if record is None:
                continue
            if isinstance(record, UnreadableImageError):
                if strict:
                    raise record
                left_out += 1
                log.error("Could not open or find file %s (%s)", root_folder + line.path, record)
                if failure:
                    log.warning(failure, line.path)
                continue
            for warning in record.warnings:
                log.warning("%s", warning)
            if first is None:
                first = record.image
            elif check_size:
                _check_size(record.image, first, line.path)
            key = b"%08d_" % i + os.fsencode(line.path)
            writer.put(key, record.message.SerializeToString())
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


# --- what the commands have in common -----------------------------------------------------


def check_choice(flag: str, value: str, known: Collection[str]) -> None:
    """Raises UsageError for a value that a flag does not have."""
    if value not in known:
        raise UsageError(
            f"-{flag} has to be one of {', '.join(known)}, got {value}.",
            advice=did_you_mean(value, known),
        )


def check_resize_mode(name: str) -> None:
    """Raises UsageError for a way to resize that there is not."""
    check_choice("resize_mode", name, FITS)


def storing_arguments(flags: dict[str, Any], **form: Any) -> dict[str, Any]:
    """The arguments of `convert_imageset` and `convert_annoset` that flags of both stand for.

    Args:
        form: fields of the StoredForm that only one of them has flags for.
    """
    stored = StoredForm(
        color=not flags["gray"],
        height=flags["resize_height"],
        width=flags["resize_width"],
        encoded=flags["encoded"],
        encode_type=flags["encode_type"],
        **form,
    )
    return {
        "form": stored,
        "backend": flags["backend"],
        "shuffle": flags["shuffle"],
        "seed": flags["seed"] if flags["seed"] >= 0 else None,
        "check_size": flags["check_size"],
        "strict": flags["strict"],
    }


def check_complete(converted: Converted, list_file: str, database: str) -> None:
    """Raises ImagesLeftOutError if images could not be read."""
    if converted.left_out:
        raise ImagesLeftOutError(
            f"{converted.left_out} of {sum(converted)} images are left out, since they cannot be"
            f" read; {database} holds the others.",
            file=list_file,
        )


def forgiving(convert: CommandFunction) -> CommandFunction:
    """A command as old scripts know it: they go on though images are left out, so it ends with 0
    then."""

    def converted(words: list[str], flags: dict[str, Any]) -> None:
        try:
            convert(words, flags)
        except ImagesLeftOutError as error:
            log.warning("%s", error)

    return converted
