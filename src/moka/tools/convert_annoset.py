"""Image files and what is on them, named in a list, to a database of AnnotatedDatum records: SSD's
program."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from moka.command.run import run
from moka.data.annotation_files import (
    READERS,
    Annotation,
    Box,
    NamedLabels,
    read_annotation,
    read_named_labels,
)
from moka.data.datum import NO_LABEL
from moka.data.images import read_image_lines
from moka.data.store import make_store
from moka.errors import DataError, UsageError
from moka.files import local_path
from moka.schema import caffe_pb2
from moka.tools.image_records import (
    AS_IT_IS,
    INT32,
    Converted,
    Line,
    Record,
    StoredForm,
    check_choice,
    check_complete,
    check_folder,
    datum_of,
    forgiving,
    in_order,
    load_image,
    store_images,
    storing_arguments,
)
from moka.types import PathLike

log = logging.getLogger("moka")

ANNO_TYPES = ("classification", "detection")
LIST_ADVICE = (
    "LISTFILE has to be a text file with the path of an image and its annotation file, or its"
    " label, on each line."
)


def read_pairs(source: PathLike) -> list[Line]:
    """The images of a list, each with what stands after it: a file, or a label. Empty lines do not
    count.

    Raises:
        DataError: missing, empty, or a line with more or less than two names.
    """
    pairs = []
    for number, line in enumerate(read_image_lines(source, advice=LIST_ADVICE), 1):
        pieces = line.split("\t") if "\t" in line else line.split()
        words = [word for word in map(str.strip, pieces) if word]
        if not words:
            continue
        if len(words) != 2:
            raise DataError(
                f'line {number}: "{line}" is not two words, an image and its annotation file or'
                " label.",
                file=source,
                advice="Between names with blanks put a tab.",
            )
        pairs.append(Line(number, words[0], NO_LABEL, annotation=words[1]))
    if not pairs:
        raise DataError("the list names no image.", file=source)
    return pairs


def _with_labels(pairs: Iterable[Line], source: PathLike) -> list[Line]:
    """The lines, each with the label that stands after its image."""
    lines = []
    for line in pairs:
        text = line.annotation
        if not re.fullmatch(r"[+-]?[0-9]{1,10}", text) or int(text) not in INT32:
            raise DataError(
                f'line {line.number}: "{text}" is no label, an integer of 32 bits.',
                file=source,
                advice="If it is a file with boxes, give -anno_type=detection.",
            )
        lines.append(line._replace(label=int(text), annotation=""))
    return lines


def convert_annoset(
    root_folder: str,
    list_file: PathLike,
    database: PathLike,
    *,
    anno_type: str = "classification",
    label_type: str = "xml",
    label_map_file: PathLike = "",
    check_label: bool = False,
    form: StoredForm = AS_IT_IS,
    backend: str = "lmdb",
    shuffle: bool = False,
    seed: int | None = None,
    check_size: bool = False,
    strict: bool = False,
) -> Converted:
    """Write a database of the images in a list and the boxes of their objects, as SSD trains on it.

    Keys, order and images that cannot be read are as in `convert_imageset`; empty lines do not
    count. An image whose annotation file is missing has no objects, and a warning says so. Records
    are those of SSD's program but for these: an element of VOC's XML may stand anywhere in its
    object (SSD misses a <difficult> after the <bndbox>), a corner may be a fraction (SSD reads 0),
    an object without a box is left out (SSD: a box of zeros), the bytes of a file are kept where
    only `encoded` is asked for.

    Args:
        root_folder: put before each path as it is, so a folder ends with a slash.
        list_file: on each line an image and, after a blank or a tab, its annotation file
            (detection) or its label (classification).
        anno_type: "classification" or "detection".
        label_type: the kind of annotation files, a key of `READERS`.
        label_map_file: a LabelMap with the names in "xml" and "json"; "txt" has labels.
        check_label: a name that stands in it twice is an error; else its last label counts.
        backend, shuffle, seed, check_size: see `convert_imageset`.
        strict: an image that cannot be read is an error, and so is a missing annotation file.

    Raises:
        UsageError: another anno_type or label_type, no label map.
        DataError: see `convert_imageset`; an annotation that cannot be read or names an unknown
            class; no annotation file is there.
        SchemaError: no label map in label_map_file.
    """
    check_choice("anno_type", anno_type, ANNO_TYPES)
    check_choice("label_type", label_type, READERS)
    names: NamedLabels | None = None
    lines = read_pairs(list_file)
    check_folder(root_folder, list_file)
    missing: set[int] = set()
    if anno_type == "classification":
        lines = _with_labels(lines, list_file)
    else:
        names = _names(label_type, label_map_file, check_label)
        missing = _missing(lines, root_folder, list_file, strict)
    lines = in_order(lines, shuffle=shuffle, seed=seed)
    form.tell()
    decode = form.decoder()

    def make(line: Line) -> Record:
        path = root_folder + line.path
        data, whole = load_image(path, decode)
        image = form.fitted(whole)
        record = caffe_pb2.AnnotatedDatum(datum=datum_of(image, data, path, line.label, form))
        record.datum.channels, record.datum.height, record.datum.width = image.shape
        if anno_type == "classification":
            return Record(record, record.datum)
        found = Annotation([], [])
        if line.number not in missing:
            _, height, width = whole.shape
            file = root_folder + line.annotation
            found = read_annotation(file, label_type, (height, width), names)
        record.type = caffe_pb2.AnnotatedDatum.BBOX
        add_boxes(record, found.boxes)
        return Record(record, record.datum, found.warnings)

    return store_images(
        lines,
        make,
        make_store(database, backend),
        root_folder=root_folder,
        list_file=list_file,
        check_size=check_size,
        strict=strict,
        failure="Failed to read %s",
    )


def _names(label_type: str, file: PathLike, unique: bool) -> NamedLabels | None:
    """The names of the classes; None: there is no label map, and none is needed."""
    if file:
        return read_named_labels(file, unique=unique)
    if label_type == "txt":
        return None
    raise UsageError(
        f"-label_type={label_type} needs -label_map_file, a prototxt with the label of each name."
    )


def _missing(lines: Sequence[Line], root: str, source: PathLike, strict: bool) -> set[int]:
    """The numbers of the lines whose annotation file is not there; the log says how many.

    Raises:
        DataError: all of them (in strict mode: one).
    """
    gone = [x for x in lines if not os.path.exists(local_path(root + x.annotation))]
    if len(gone) == len(lines):
        raise DataError(
            f"none of the {len(lines)} annotation files in it is there; the first would be"
            f" {root}{lines[0].annotation}.",
            file=source,
            advice="Is ROOTFOLDER right, with a slash at its end?",
        )
    if gone:
        fact = f"line {gone[0].number}: there is no annotation file {root}{gone[0].annotation}"
        if strict:
            raise DataError(f"{fact}.", file=source)
        more = f"; there are {len(gone)} such lines" * (len(gone) > 1)
        log.warning("%s: %s, so its image has no objects%s.", source, fact, more)
    return {line.number for line in gone}


def add_boxes(record: caffe_pb2.AnnotatedDatum, boxes: Iterable[Box]) -> None:
    """Put boxes in a record: a group for each label, in the order in which labels appear, and in a
    group the boxes numbered from 0."""
    groups: dict[int, caffe_pb2.AnnotationGroup] = {}
    for label, (x1, y1, x2, y2), difficult in boxes:
        if label not in groups:
            groups[label] = record.annotation_group.add(group_label=label)
        group = groups[label]
        group.annotation.add(
            instance_id=len(group.annotation),
            bbox=caffe_pb2.NormalizedBBox(xmin=x1, ymin=y1, xmax=x2, ymax=y2, difficult=difficult),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe convert_annoset [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME`."""
    return run("convert_annoset", _convert, argv)


def classic(argv: Sequence[str] | None = None) -> int:
    """SSD's program, see `forgiving`."""
    return run("convert_annoset", forgiving(_convert), argv)


def _convert(words: list[str], flags: dict[str, Any]) -> None:
    root_folder, list_file, database = words
    converted = convert_annoset(
        root_folder,
        list_file,
        database,
        anno_type=flags["anno_type"],
        label_type=flags["label_type"],
        label_map_file=flags["label_map_file"],
        check_label=flags["check_label"],
        **storing_arguments(flags, min_dim=flags["min_dim"], max_dim=flags["max_dim"]),
    )
    check_complete(converted, list_file, database)
