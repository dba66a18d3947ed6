"""The boxes of one image from a file of its own, as SSD's data sets have them: VOC's XML, JSON in
COCO's words, or plain text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from moka.byte_text import to_text
from moka.data.xml_tree import Element, parse_xml
from moka.errors import DataError, SchemaError, did_you_mean
from moka.files import decode_text, read_bytes
from moka.schema import caffe_pb2, read_text
from moka.types import PathLike

_LISTED = 10  # names in a message
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
LABEL_MAP_ADVICE = 'A label map has an item { name: "cat" label: 1 } for each class.'


class Box(NamedTuple):
    """An object: its label, x1, y1, x2, y2 as parts of the image, and whether it is difficult."""

    label: int
    corners: tuple[float, float, float, float]
    difficult: bool = False


class Annotation(NamedTuple):
    """What a file says of an image: its boxes, in the file's order, and what is odd about them."""

    boxes: list[Box]
    warnings: list[str]


@dataclass(frozen=True)
class NamedLabels:
    """The labels of names, and the label map that they stand in."""

    file: PathLike
    by_name: Mapping[str, int]


def read_named_labels(file: PathLike, *, unique: bool = False) -> NamedLabels:
    """The names of a label map. Of a name that stands there twice the last label counts.

    Args:
        unique: such a name is an error.

    Raises:
        SchemaError: missing, or no label map.
        DataError: it holds no name, or one twice.
    """
    by_name: dict[str, int] = {}
    try:
        label_map = read_text(file, caffe_pb2.LabelMap)
    except SchemaError as error:
        if error.advice is None or "--unknown_fields" in error.advice:  # a plain list of names
            error.advice = LABEL_MAP_ADVICE
        raise
    for item in label_map.item:
        if unique and item.name in by_name:
            raise DataError(
                f"There are many duplicates of name: {item.name}.",
                file=file,
                advice="Keep one, or leave out -check_label: then the last one counts.",
            )
        by_name[item.name] = item.label
    if not by_name:
        raise DataError("the label map holds no name.", file=file, advice=LABEL_MAP_ADVICE)
    return NamedLabels(file, by_name)


def read_annotation(
    file: PathLike, kind: str, size: tuple[int, int], names: NamedLabels | None = None
) -> Annotation:
    """The boxes in a file.

    Args:
        kind: a key of READERS.
        size: height and width of the image, which counts where the file does not say one.
        names: the labels of names; "xml" and "json" need them.

    Raises:
        DataError: the file cannot be read, or holds something else. It names file and line.
    """
    try:
        data = read_bytes(file)
    except OSError as error:
        raise DataError(f"the annotation cannot be read: {error.strerror}.", file=file) from None
    text = to_text(decode_text(data).encode("utf-8", "surrogateescape"))
    page = _Page(file, size, names or NamedLabels("", {}))
    try:
        READERS[kind](page, text)
    except DataError as error:
        raise error.at(file=file) from None
    if any(box.label == 0 for box in page.boxes):
        page.warnings.append(
            f"{file}: a box has label 0, which is the background of SSD's nets: they will not train"
            " on it. Classes of objects start at 1."
        )
    return Annotation(page.boxes, page.warnings)


@dataclass
class _Page:
    """An annotation while it is read.

    Attributes:
        size: height and width of the image.
        unit: width and height that the corners are counted in.
    """

    file: PathLike
    size: tuple[int, int]
    names: NamedLabels
    boxes: list[Box] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unit: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.unit = self.size[::-1]

    def measure(self, height: int | None, width: int | None) -> None:
        """Take over the size that the file says; None: it says none.

        Raises:
            DataError: a size without pixels.
        """
        if height is None or width is None:
            self.warnings.append(
                f"When parsing {self.file}: it does not say the size of the image, so the image's"
                " own counts."
            )
            return
        for what, said, real in zip(("height", "width"), (height, width), self.size, strict=True):
            if said < 1:
                raise DataError(
                    f"no valid image width/height: the {what} is {said}, the image has {real}"
                    " pixels.",
                    advice="Correct it, or remove the size: then the image's own counts.",
                )
            if said != real:
                self.warnings.append(
                    f"{self.file} inconsistent image {what}. It says {said}, the image has {real}"
                    " pixels; the boxes count in what it says."
                )
        self.unit = width, height

    def label(self, name: str, where: str) -> int:
        """The label of a name. Raises DataError for an unknown one."""
        if name in self.names.by_name:
            return self.names.by_name[name]
        known = list(self.names.by_name)
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        raise DataError(
            f"{where}: Unknown name: {name}; {self.names.file} has"
            f" {', '.join(known[:_LISTED])}{more}.",
            advice=did_you_mean(name, known) or "Add it to the label map, or correct it here.",
        )

    def add(self, label: int, corners: Sequence[float], difficult: bool, where: str) -> None:
        """Take a box with corners x1, y1, x2, y2 in pixels as it is; say what is odd about it, and
        what an AnnotatedData layer does with it (`moka.data.box_rows.cut_rows`).

        The numbers are float32, as SSD's.
        """
        width, height = self.unit
        pixels = np.array(corners, np.float32)
        x1, y1, x2, y2 = pixels.tolist()
        shown = f"{where[0].upper()}{where[1:]}: {x1:g} {y1:g} {x2:g} {y2:g}"
        then = "It is stored as it is; AnnotatedData"
        if pixels.min() < 0 or max(x1, x2) > width or max(y1, y2) > height:
            self.warnings.append(
                f"{self.file} bounding box exceeds image boundary. {shown} of {width} x {height}"
                f" pixels. {then} cuts it to the image, or to expand_param's canvas."
            )
        if x1 > x2 or y1 > y2:
            self.warnings.append(
                f"{self.file} bounding box irregular. {shown}. {then} leaves it out."
            )
        left, top, right, bottom = (pixels / np.array([width, height] * 2, np.float32)).tolist()
        self.boxes.append(Box(label, (left, top, right, bottom), difficult))


def _read_voc(page: _Page, text: str) -> None:
    """An <annotation> with <size> and any number of <object>, each with <name>, <bndbox> and
    perhaps <difficult>, in any order."""
    root = parse_xml(text)
    if root.name != "annotation":
        raise DataError(
            f"line {root.line}: the file begins with <{root.name}>, expected <annotation>.",
            advice="-label_type=xml reads VOC's files.",
        )
    size = root.first("size")
    page.measure(*(_whole(size and size.first(side)) for side in ("height", "width")))
    for item in root.every("object"):
        name, box, difficult = map(item.first, ("name", "bndbox", "difficult"))
        if name is None:
            raise DataError(f"line {item.line}: an <object> has no <name>.")
        label = page.label(name.text, f"line {name.line}")
        if box is None:
            page.warnings.append(
                f"{page.file}: line {item.line}: {name.text} has no <bndbox>, and is left out."
            )
            continue
        corners = [_corner(box, side) for side in _CORNERS]
        hard = difficult is not None and difficult.text == "1"
        page.add(label, corners, hard, f"line {box.line}")


def _whole(element: Element | None) -> int | None:
    """The whole number in an element; None if there is none."""
    return _whole_number(element.text) if element is not None else None


def _corner(box: Element, side: str) -> float:
    found = box.first(side)
    number = None if found is None else _number(found.text)
    if found is None:
        raise DataError(f"line {box.line}: a <bndbox> has no <{side}>.")
    if number is None:
        raise DataError(f'line {found.line}: <{side}> is "{found.text}", expected a number.')
    return number


def _read_coco(page: _Page, text: str) -> None:
    """An object with `image`, which has height and width, and a list `annotation`: each has a
    category_id, a bbox of x, y, width and height, and perhaps iscrowd."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"line {error.lineno}: this is no JSON: {error.msg}.") from None
    except (ValueError, RecursionError) as error:  # digits without end, brackets without end
        raise DataError(f"this JSON cannot be read: {error}.") from None
    found = content.get("annotation") if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise DataError(
            'there is no list "annotation" in it.',
            advice="-label_type=json reads one file for each image, with image and annotation;"
            " divide COCO's own file first.",
        )
    image = content.get("image")
    sides = (image.get(side) if isinstance(image, dict) else None for side in ("height", "width"))
    page.measure(*map(_whole_number, sides))
    for number, item in enumerate(found, 1):
        where = f"annotation {number}"
        label, corners, crowd = _coco_object(page, item, where)
        page.add(label, corners, crowd, where)


def _coco_object(page: _Page, item: Any, where: str) -> tuple[int, list[float], bool]:
    if not isinstance(item, dict):
        raise DataError(f"{where} is {_shown(item)}, expected an object.")
    category = item.get("category_id")
    if not isinstance(category, int | str) or isinstance(category, bool):
        raise DataError(f"{where}: category_id is {_shown(category)}, expected a number or a name.")
    label = page.label(str(category).encode("utf-8", "replace").decode(), where)
    box = item.get("bbox")
    values = [_number(value) for value in box] if isinstance(box, list) else []
    x, y, width, height = values if len(values) == 4 else [None] * 4
    if x is None or y is None or width is None or height is None:
        raise DataError(
            f"{where}: bbox is {_shown(box)}, expected four numbers: x, y, width, height."
        )
    near = np.array([x, y], np.float32)
    far = near + np.array([width, height], np.float32)
    return label, [*near.tolist(), *far.tolist()], bool(_whole_number(item.get("iscrowd")))


def _read_plain(page: _Page, text: str) -> None:
    """A label, an integer, and xmin ymin xmax ymax for each box, all in a line."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        for at in range(0, len(words), 5):
            label, corners = _plain_box(words[at : at + 5], f"line {number}")
            page.add(label, corners, False, f"line {number}")


def _plain_box(words: list[str], where: str) -> tuple[int, list[float]]:
    corners = [value for value in map(_number, words[1:]) if value is not None]
    label = _whole_number(words[0])
    if label is None or len(corners) != 4 or len(words) != 5:
        raise DataError(
            f'{where}: "{" ".join(words)}", expected a label, which is an integer, and xmin ymin'
            " xmax ymax."
        )
    return label, corners


READERS: dict[str, Callable[[_Page, str], None]] = {
    "xml": _read_voc,
    "json": _read_coco,
    "txt": _read_plain,
}


def _number(value: Any) -> float | None:
    """The number that a value is, or the text of one; None: it is none, or beyond 32 bits."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 2**31 else None


def _whole_number(value: Any) -> int | None:
    """The integer of 32 bits that a value is, or the text of one; None: it is none."""
    if not isinstance(value, int | str):
        return None
    text = str(value).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", text):
        return None
    return int(text) if -(2**31) <= int(text) < 2**31 else None


def _shown(value: Any) -> str:
    """A value of JSON, cut short."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
