"""Image files and their labels, named in a list, to a database of Datum records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from moka.command.run import run
from moka.data.decode import Decode
from moka.data.images import parse_line, read_image_lines, warn_of_odd_labels
from moka.data.store import make_store
from moka.errors import DataError, UsageError
from moka.schema import caffe_pb2
from moka.tools.image_records import (
    AS_IT_IS,
    INT32,
    Converted,
    Line,
    Record,
    StoredForm,
    check_complete,
    check_folder,
    check_resize_mode,
    datum_of,
    forgiving,
    in_order,
    load_image,
    store_images,
    storing_arguments,
)
from moka.types import PathLike

LIST_ADVICE = "LISTFILE has to be a text file with the path and the label of an image on each line."


def make_datum(
    path: str, label: int, form: StoredForm, decode: Decode | None = None
) -> caffe_pb2.Datum:
    """The record of an image file, see `datum_of`.

    Args:
        decode: the form's `decoder`; None: a new one.

    Raises:
        UnreadableImageError: the file is missing or no image.
        DataError: the image cannot be encoded as wanted.
    """
    data, image = load_image(path, decode or form.decoder())
    return datum_of(form.fitted(image), data, path, label, form)


def read_labeled(source: PathLike, label_count: int = 0) -> list[Line]:
    """All lines of a list, also empty ones, since they count in the keys.

    A label that is no integer is what C's atoi makes of it, as ever; a warning says so.

    Args:
        label_count: numbers after each path, of any kind; 0: Caffe's lines, one integer.

    Raises:
        DataError: missing, empty, a label beyond 32 bits, other than `label_count` labels.
    """
    lines = read_image_lines(source, advice=LIST_ADVICE)
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
    check_folder(root_folder, list_file)
    lines = in_order(lines, shuffle=shuffle, seed=seed)
    form.tell()
    decode = form.decoder()

    def make(line: Line) -> Record:
        record = make_datum(root_folder + line.path, line.label, form, decode)
        record.labels.extend(line.labels)
        return Record(record, record)

    return store_images(
        lines,
        make,
        make_store(database, backend),
        root_folder=root_folder,
        list_file=list_file,
        check_size=check_size,
        strict=strict,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe convert_imageset [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME`."""
    return run("convert_imageset", _convert, argv)


def classic(argv: Sequence[str] | None = None) -> int:
    """The program under its old name, see `forgiving`."""
    return run("convert_imageset", forgiving(_convert), argv)


def _convert(words: list[str], flags: dict[str, Any]) -> None:
    root_folder, list_file, database = words
    check_resize_mode(flags["resize_mode"])
    if flags["label_count"] < 0:
        raise UsageError(f"-label_count has to be >= 0, got {flags['label_count']}.")
    converted = convert_imageset(
        root_folder,
        list_file,
        database,
        label_count=flags["label_count"],
        **storing_arguments(flags, resize_mode=flags["resize_mode"]),
    )
    check_complete(converted, list_file, database)
